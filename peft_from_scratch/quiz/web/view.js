// One question on the page: reads the controls, shows the verdict, keeps the entry.
"use strict";

const HINT_AFTER = 2; // wrong tries until the hint comes by itself
const ANSWER_AFTER = 3; // wrong tries until the answer may be shown

/** Reads and fills the controls of each kind of question. */
const controls = {
  chosen: (form) => [...form.querySelectorAll("fieldset input:checked")].map((box) => Number(box.value)),
  choose: (form, given) => form.querySelectorAll("fieldset input").forEach((box) => (box.checked = given.includes(Number(box.value)))),
  read(type, form) {
    if (type === "numeric" || type === "output") return form.querySelector(".answer").value;
    if (type === "order") return [...form.querySelectorAll(".chosen .line")].map((line) => Number(line.dataset.line));
    if (type === "match") return [...form.querySelectorAll("select")].map((menu) => (menu.value === "" ? null : Number(menu.value)));
    if (type === "self" && form.querySelector(".model").hidden) throw new Unreadable("Write your answer, then press Compare.");
    return controls.chosen(form);
  },
  fill(type, form, given) {
    if (type === "numeric" || type === "output") form.querySelector(".answer").value = given;
    else if (type === "order") arrange(form, given);
    else if (type === "match") form.querySelectorAll("select").forEach((menu, i) => (menu.value = given[i] ?? ""));
    else controls.choose(form, given);
    if (type === "self") form.querySelector(".model").hidden = !given.length;
  },
};

/** Put these lines, in this order, into the answer and all others back into the pool. */
function arrange(form, given) {
  const lines = [...form.querySelectorAll(".line")].sort((a, b) => a.dataset.line - b.dataset.line);
  lines.forEach((line) => form.querySelector(".pool").append(line.parentElement));
  given.forEach((place) => form.querySelector(".chosen").append(lines[place].parentElement));
}

/** A line was pressed: it changes sides, and the keyboard stays where it was working. */
function press(form, line) {
  const home = line.closest("ol");
  const place = [...home.children].indexOf(line.parentElement);
  const given = controls.read("order", form);
  const number = Number(line.dataset.line);
  arrange(form, given.includes(number) ? given.filter((each) => each !== number) : [...given, number]);
  const next = home.children[Math.min(place, home.children.length - 1)];
  (next ? next.querySelector("button") : form.querySelector(".check")).focus();
}

class View {
  constructor(question, form, memory, changed) {
    Object.assign(this, { question, form, memory, changed });
    this.button = (name) => form.querySelector(`button.${name}`);
    form.addEventListener("submit", (event) => (event.preventDefault(), this.check()));
    this.button("hint").addEventListener("click", () => this.say("", "Hint.", question.hint));
    this.button("give-up").addEventListener("click", () => this.giveUp());
    this.button("again").addEventListener("click", () => this.restart(true));
    this.button("compare")?.addEventListener("click", () => (form.querySelector(".model").hidden = false));
    form.addEventListener("click", (event) => {
      const line = event.target.closest(".line");
      if (line && !this.over) press(form, line);
    });
    this.resume();
  }

  get entry() {
    return this.memory.get(this.question.id);
  }

  get over() {
    return Boolean(this.entry.done);
  }

  check() {
    if (this.over) return;
    let given, verdict;
    try {
      given = controls.read(this.question.type, this.form);
      verdict = grade(this.question, given);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.say("", "", `<p></p>`);
      this.form.querySelector(".feedback p").textContent = error.message; // the reader's own words are never HTML
      return;
    }
    const tries = (this.entry.tries || 0) + 1;
    const solved = verdict.correct || this.question.type === "self";
    const entry = { ...this.entry, tries, given, first: tries === 1 ? verdict.score : this.entry.first };
    this.close(solved ? { ...entry, done: "solved" } : entry, verdict.correct && tries === 1);
    this.show(verdict);
  }

  giveUp() {
    this.close({ ...this.entry, done: "shown" }, false);
    this.show(null);
  }

  /** Keep the entry; if the question is over, it changes its box. */
  close(entry, firstRight) {
    this.memory.set(this.question.id, entry.done ? moved(entry, firstRight, Date.now()) : entry);
  }

  show(verdict) {
    const { question, entry } = this;
    if (entry.done === "shown") this.say("", "The answer:", (question.key_in_words ?? codeBlock(question.accept[0])) + question.explanation);
    else if (entry.done) this.say("good", verdict.correct ? "✓ Right." : "Noted.", verdict.feedback + question.explanation);
    else this.say("bad", "✗ Not yet.", verdict.feedback + (entry.tries >= HINT_AFTER ? `<p><b>Hint.</b></p>${question.hint}` : ""));
    this.refresh();
  }

  say(kind, mark, html) {
    const place = this.form.querySelector(".feedback");
    place.className = `feedback ${kind}`;
    place.innerHTML = (mark ? `<b>${mark}</b> ` : "") + html;
  }

  refresh() {
    const tries = this.entry.tries || 0;
    const focused = this.form.contains(document.activeElement);
    this.button("check").disabled = this.over;
    this.button("hint").hidden = this.over;
    this.button("give-up").hidden = this.over || tries < ANSWER_AFTER;
    this.button("again").hidden = !this.over;
    if (focused && this.over) this.button("again").focus(); // a disabled button would lose the keyboard's place
    this.changed(this);
  }

  /** What was answered on an earlier day stands there again, with its verdict. */
  resume() {
    const { question, form, entry } = this;
    if (entry.given !== undefined) {
      controls.fill(question.type, form, entry.given);
      this.show(grade(question, entry.given));
    } else if (entry.done) this.show(null);
  }

  /** Empty the controls and count the tries anew; the box stays. */
  restart(focus) {
    const { box, due } = this.entry;
    this.memory.set(this.question.id, box ? { box, due } : {});
    this.form.reset();
    if (this.question.type === "order") arrange(this.form, []);
    if (this.question.type === "self") this.form.querySelector(".model").hidden = true;
    this.say("", "", "");
    this.refresh();
    if (focus) this.form.querySelector("input, select, textarea, button.line").focus();
  }
}

function codeBlock(text) {
  const block = document.createElement("pre");
  block.textContent = text;
  return block.outerHTML;
}
