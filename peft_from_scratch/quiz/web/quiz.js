// Starts every quiz on the page: <section class="quiz" data-quiz="04"> holds the forms and a .score line.
"use strict";

const memory = new Memory(window.localStorage);
const banks = JSON.parse(document.getElementById("quiz-data").textContent);

/** For example "Solved 7 of 12, 5 at the first try." */
function scoreLine(bank) {
  const graded = bank.questions.filter((question) => question.type !== "self").map((question) => memory.get(question.id));
  const solved = graded.filter((entry) => entry.done === "solved").length;
  const first = graded.filter((entry) => entry.first === 1).length;
  const passed = solved >= bank.pass_mark * graded.length ? " Passed." : "";
  return `Solved ${solved} of ${graded.length}, ${first} at the first try.${passed}`;
}

function startQuiz(section) {
  const bank = banks.find((each) => each.quiz === section.dataset.quiz);
  const score = section.querySelector(".score");
  const tell = () => (score.textContent = scoreLine(bank) + (memory.kept ? "" : " (This browser keeps nothing here: answers last until the page is closed.)"));
  const views = bank.questions.map((question) => new View(question, document.getElementById(`q-${question.id}`), memory, tell));
  twice(section.querySelector(".forget"), () => {
    memory.forget(bank.questions.map((question) => question.id));
    views.forEach((view) => view.restart(false));
  });
  tell();
  return views;
}

/** A button that must be pressed twice. */
function twice(button, act) {
  if (!button) return;
  const words = button.textContent;
  let armed = false;
  button.addEventListener("click", () => {
    if (armed) act();
    armed = !armed;
    button.textContent = armed ? "Press again to forget" : words;
  });
}

if (!document.querySelector(".practice")) document.querySelectorAll("section.quiz").forEach(startQuiz);
