// What the browser remembers of each question, and when it comes again: five boxes, as Leitner had them.
"use strict";

const DAY = 24 * 3600 * 1000;
const REST = [0, 1, 3, 7, 21]; // days until a question of box 1 to 5 is due

/** The entry after a question is over: a right first try moves it up one box, anything else back to box 1. */
function moved(entry, firstRight, now) {
  const box = firstRight ? Math.min((entry.box || 1) + 1, REST.length) : 1; // a new one counts as in box 1
  return { ...entry, box, due: now + REST[box - 1] * DAY };
}

/** {due, fresh, resting}: ids whose time has come (earliest first), ids never finished, ids that may rest. */
function sorted(entries, ids, now) {
  const box = (id) => (entries[id] || {}).box || 0;
  const due = ids.filter((id) => box(id) && entries[id].due <= now).sort((a, b) => entries[a].due - entries[b].due);
  const fresh = ids.filter((id) => !box(id));
  return { due, fresh, resting: ids.filter((id) => box(id) && entries[id].due > now) };
}

/** A round of practice: what is due first, then new questions. */
function round(entries, ids, now, size) {
  const { due, fresh } = sorted(entries, ids, now);
  return [...due, ...fresh].slice(0, size);
}

const PLACE = "peft-from-scratch.quiz";

/** The entries of this browser. Where it refuses to keep anything, they last until the page is closed. */
class Memory {
  constructor(storage) {
    this.storage = storage;
    this.entries = {};
    try {
      this.entries = JSON.parse(storage.getItem(PLACE)) || {};
      this.kept = true;
    } catch {
      this.kept = false;
    }
  }

  get(id) {
    return this.entries[id] || {};
  }

  set(id, entry) {
    this.entries[id] = entry;
    this.save();
  }

  /** Another tab may have written since: only this tab's questions replace what is there. */
  save() {
    try {
      const there = JSON.parse(this.storage.getItem(PLACE)) || {};
      this.entries = { ...there, ...this.entries };
      this.storage.setItem(PLACE, JSON.stringify(this.entries));
    } catch {
      this.kept = false;
    }
  }

  forget(ids) {
    ids.forEach((id) => delete this.entries[id]);
    try {
      this.storage.setItem(PLACE, JSON.stringify(this.entries));
    } catch {
      this.kept = false;
    }
  }
}

if (typeof module !== "undefined") module.exports = { moved, sorted, round, Memory, DAY };
