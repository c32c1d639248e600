// The page of the whole course: one question at a time, what is due first, what was missed again at the end.
"use strict";

const ROUND = 10;

class Practice {
  constructor(page) {
    this.page = page;
    this.views = new Map();
    this.part = (name) => page.querySelector(`.${name}`);
    this.part("start").addEventListener("click", () => this.begin());
    this.part("next").addEventListener("click", () => this.next());
    this.part("stop").addEventListener("click", () => this.overview());
    page.querySelectorAll(".lessons input").forEach((box) => box.addEventListener("change", () => this.overview()));
    twice(page.querySelector(".forget"), () => {
      memory.forget(this.all(true));
      this.overview();
    });
    this.overview();
  }

  /** Ids of the questions of the chosen lessons. */
  all(every = false) {
    const chosen = [...this.page.querySelectorAll(".lessons input")].filter((box) => every || box.checked).map((box) => box.value);
    return banks.filter((bank) => chosen.includes(bank.quiz)).flatMap((bank) => bank.questions.map((question) => question.id));
  }

  overview() {
    this.page.querySelectorAll("form.question").forEach((form) => (form.hidden = true));
    const { due, fresh, resting } = sorted(memory.entries, this.all(), Date.now());
    const boxes = [1, 2, 3, 4, 5].map((box) => this.all().filter((id) => memory.get(id).box === box).length);
    this.part("state").textContent =
      `${due.length} due, ${fresh.length} new, ${resting.length} resting. Boxes 1 to 5 hold ${boxes.join(", ")}.` +
      (memory.kept ? "" : " This browser keeps nothing here: answers last until the page is closed.");
    this.part("start").disabled = !due.length && !fresh.length;
    this.toggle(false);
  }

  toggle(running) {
    this.part("overview").hidden = running;
    this.part("running").hidden = !running;
  }

  begin() {
    this.queue = round(memory.entries, this.all(), Date.now(), ROUND);
    this.asked = this.right = 0;
    this.toggle(true);
    this.next();
  }

  next() {
    if (this.form) this.form.hidden = true;
    const id = this.queue.shift();
    if (!id) return this.end();
    const view = this.view(id);
    view.restart(false);
    this.form = view.form; // only from here on its answers count
    this.form.hidden = false;
    this.part("place").textContent = `${this.asked + 1}: lesson ${id.slice(0, 2)}, ${this.queue.length} to come.`;
    this.part("next").textContent = "Skip";
    const heading = this.form.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus();
  }

  view(id) {
    if (!this.views.has(id)) {
      const question = banks.flatMap((bank) => bank.questions).find((each) => each.id === id);
      const view = new View(question, document.getElementById(`q-${id}`), memory, (changed) => this.answered(changed));
      this.views.set(id, view);
    }
    return this.views.get(id);
  }

  /** A question is over: count it, and ask it again in this round if it was missed. */
  answered(view) {
    if (!view.over || view.form !== this.form || this.part("next").textContent === "Next") return;
    this.asked += 1;
    const good = view.entry.done === "solved" && view.entry.first === 1;
    this.right += good;
    if (!good) this.queue.push(view.question.id);
    this.part("next").textContent = "Next";
  }

  end() {
    this.overview();
    this.part("state").textContent = `This round: ${this.right} of ${this.asked} right at the first try. ` + this.part("state").textContent;
    this.part("start").focus();
  }
}

document.querySelectorAll(".practice").forEach((page) => new Practice(page));
