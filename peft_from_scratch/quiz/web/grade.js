// Grades one answer, as quiz/grade.py and quiz/read.py do; a test holds the two equal. No page is needed here.
"use strict";

class Unreadable extends Error {} // an answer that cannot be read does not count as a try

const isNumber = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/;

/** The number in `text`: 73,728 · 7.4e4 · 0.3 % · 2/3 · 7.4 × 10^4. */
function readNumber(text, unit = "") {
  if (!text.trim()) throw new Unreadable("Nothing is written yet.");
  let body = text.trim().toLowerCase().replace(/^[≈~= ]+/, "").replaceAll("−", "-");
  if (unit && body.endsWith(unit.toLowerCase())) body = body.slice(0, -unit.length);
  body = body.trim();
  const percent = body.endsWith("%");
  if (percent) body = body.slice(0, -1).trim();
  body = body.replace(/(?<=\d)[\s_'\u2009\u202f](?=\d{3}(?!\d))/g, "").replace(/\s*[×x*]\s*10(\^|\*\*)/g, "e");
  const parts = body.split("/").map(plainNumber);
  const value = parts.length === 2 ? parts[0] / parts[1] : parts[0];
  if (parts.length > 2 || !Number.isFinite(value))
    throw new Unreadable(`'${text.trim()}' cannot be read as a number. Write for example 73,728 or 7.4e4 or 2/3.`);
  return percent && unit !== "%" ? value / 100 : value;
}

/** One number without a fraction bar; NaN if it is none. A comma before three digits parts thousands. */
function plainNumber(text) {
  text = text.trim();
  if (/^[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$/.test(text)) text = text.replaceAll(",", "");
  else if (/^[-+]?\d+,\d+(e[-+]?\d+)?$/.test(text)) text = text.replace(",", ".");
  return isNumber.test(text) ? Number(text) : NaN;
}

/** Printed text with what a reader may write otherwise taken out: spaces, case, quotes. */
function printed(text) {
  const lines = text.trim().split(/\r?\n/).map((line) => line.trim().replace(/^['"`]+|['"`]+$/g, "").replace(/\s+/g, " "));
  return lines.join("\n").replace(/ ?([,()[\]:=]) ?/g, "$1").toLowerCase();
}

const right = (feedback) => ({ correct: true, score: 1, feedback });
const wrong = (score, feedback) => ({ correct: false, score, feedback });
const letter = (place) => `(${String.fromCharCode(97 + place)})`;
const same = (a, b) => a.length === b.length && a.every((each, i) => each === b[i]);

const graders = {
  single(question, given) {
    if (given.length !== 1) throw new Unreadable("Nothing is chosen yet.");
    return (given[0] === question.key[0] ? right : wrong.bind(null, 0))(question.feedback[given[0]]);
  },
  multi(question, given) {
    if (!given.length) throw new Unreadable("Nothing is chosen yet.");
    const extra = given.filter((place) => !question.key.includes(place));
    const hits = given.length - extra.length;
    const missed = question.key.length - hits;
    const remarks = (extra.length ? extra : given).map((place) => `<div><b>${letter(place)}</b> ${question.feedback[place]}</div>`);
    if (missed) remarks.push(`<p>${missed} more ${missed === 1 ? "is" : "are"} right.</p>`);
    const feedback = remarks.join("");
    if (!extra.length && !missed) return right(feedback);
    return wrong(Math.max(0, (hits - extra.length) / question.key.length), feedback);
  },
  numeric(question, given) {
    const value = readNumber(given, question.unit);
    if (Math.abs(value - question.answer) <= question.slack) return right(`<p>The value is ${question.key_in_words.slice(3)}`);
    const near = question.near.find((slip) => Math.abs(value - slip.value) <= slip.reach);
    const reading = /[,/%]/.test(given) ? `<p>(Read as ${Number(value.toPrecision(6))}.)</p>` : "";
    return wrong(0, (near ? near.feedback : question.otherwise) + reading);
  },
  output(question, given) {
    if (!given.trim()) throw new Unreadable("Nothing is written yet.");
    const typed = printed(given);
    if (question.accept.some((text) => printed(text) === typed)) return right("");
    const near = question.near.find((slip) => printed(slip.text) === typed);
    return wrong(0, near ? near.feedback : question.otherwise);
  },
  order(question, given) {
    if (!given.length) throw new Unreadable("Nothing is chosen yet.");
    const { key, feedback } = question;
    if (same(given, key)) return right("<p>The order is right.</p>");
    const score = given.filter((place, i) => place === key[i]).length / Math.max(given.length, key.length);
    const stranger = given.find((place) => !key.includes(place));
    if (stranger !== undefined) return wrong(score, `<p>Line ${stranger + 1} does not belong.</p>${feedback[stranger]}`);
    if (given.length < key.length) return wrong(score, `<p>${key.length} lines are needed, you gave ${given.length}.</p>`);
    const first = given.findIndex((place, i) => place !== key[i]);
    return wrong(score, `<p>The first wrong place is number ${first + 1}.</p>${feedback[given[first]]}`);
  },
  match(question, given) {
    const { key, left, feedback, strangers } = question;
    const chosen = given.filter((place) => place !== null).length;
    if (chosen < key.length) throw new Unreadable(`Give each of 1 to ${key.length} its partner; you gave ${chosen}.`);
    const first = given.findIndex((place, i) => place !== key[i]);
    if (first < 0) return right("<p>All pairs are right.</p>");
    const hits = given.filter((place, i) => place === key[i]).length;
    const place = `<p>${hits} of ${key.length} pairs are right. Look at ${first + 1}, ${left[first]}:</p>`;
    return wrong(hits / key.length, place + feedback[first] + strangers[given[first]]);
  },
  self(question, given) {
    const score = given.length / question.rubric;
    return { correct: score === 1, score, feedback: `<p>You ticked ${given.length} of ${question.rubric} points.</p>` };
  },
};

/** {correct, score from 0 to 1, feedback as HTML}; throws Unreadable. */
function grade(question, given) {
  return graders[question.type](question, given);
}

if (typeof module !== "undefined") module.exports = { grade, printed, readNumber, Unreadable };
