"""Grade one answer: pure functions, no printing, no files, no code of the bank is run."""

import re
from dataclasses import dataclass

from .model import Match, Multi, Numeric, Order, Output, Question, Self, Single
from .read import Unreadable, matched, number, positions, printed


@dataclass(frozen=True)
class Verdict:
    """What a try is worth: `score` from 0 to 1, and a sentence that teaches."""

    correct: bool
    score: float
    feedback: str


def answer(question: Question, given) -> Verdict:
    """Grade `given`, which may be text as typed ("b", "1 3", "73,728", "3 1 2", "1b 2a") or a value.

    Values: a position from 0 for single, a list of them for multi, order, match and self (order and
    match: positions in `shown()`), a number for numeric. Raises Unreadable where no answer can be read.
    """
    return GRADERS[type(question)](question, given)


def _single(question: Single, given) -> Verdict:
    found = positions(given, len(question.choices))
    if len(found) != 1:
        raise Unreadable("Choose one.")
    choice = question.choices[found[0]]
    return Verdict(choice.correct, float(choice.correct), choice.feedback)


def _multi(question: Multi, given) -> Verdict:
    found, key = set(positions(given, len(question.choices))), set(question.key)
    wrong, missed = sorted(found - key), len(key - found)
    score = max(0.0, (len(found & key) - len(wrong)) / len(key))
    notes = [f"({chr(ord('a') + i)}) {question.choices[i].feedback}" for i in (wrong or sorted(found))]
    if missed:
        notes.append(f"{missed} more {'is' if missed == 1 else 'are'} right.")
    return Verdict(found == key, 1.0 if found == key else score, "\n\n".join(notes))


def _numeric(question: Numeric, given) -> Verdict:
    value = number(given, question.unit)
    reading = f" (Read as {value:g}.)" if isinstance(given, str) and re.search(r"[,/]|%", given) else ""
    if question.accepts(value):
        exact = f"{question.answer:,.10g} {question.unit}".strip()
        return Verdict(True, 1.0, f"The value is {exact}.")
    for near in question.near:
        if abs(value - near.value) <= max(question.tolerance.rel, 0.005) * abs(near.value):
            return Verdict(False, 0.0, near.feedback + reading)
    return Verdict(False, 0.0, question.otherwise + reading)


def _output(question: Output, given: str) -> Verdict:
    if not given.strip():
        raise Unreadable("Nothing is written yet.")
    if printed(given) in [printed(text) for text in question.accept]:
        return Verdict(True, 1.0, f"It prints {' / '.join(question.accept[0].splitlines())}.")
    for slip in question.near:
        if printed(given) == printed(slip.text):
            return Verdict(False, 0.0, slip.feedback)
    return Verdict(False, 0.0, question.otherwise)


def _order(question: Order, given) -> Verdict:
    shown, key = question.shown(), question.key
    found = positions(given, len(shown), "line")
    if found == key:
        return Verdict(True, 1.0, "The order is right.")
    if len(set(found)) != len(found):
        raise Unreadable("A line stands twice. Write each number at most once.")
    score = sum(a == b for a, b in zip(found, key, strict=False)) / max(len(found), len(key))
    strangers = [place for place in found if place not in key]
    if strangers:
        return Verdict(False, score, f"Line {strangers[0] + 1} does not belong. {shown[strangers[0]].feedback}")
    if len(found) < len(key):
        return Verdict(False, score, f"{len(key)} lines are needed, you gave {len(found)}.")
    first = next(i for i, (a, b) in enumerate(zip(found, key, strict=False)) if a != b)
    return Verdict(False, score, f"The first wrong place is number {first + 1}. {shown[found[first]].feedback}")


def _match(question: Match, given) -> Verdict:
    shown, key = question.shown(), question.key
    found = matched(given, len(key), len(shown))
    wrong = [i for i, (a, b) in enumerate(zip(found, key, strict=True)) if a != b]
    if not wrong:
        return Verdict(True, 1.0, "All pairs are right.")
    pair = question.pairs[wrong[0]]
    notes = [pair.feedback]
    notes += [line.feedback for line in question.extra if line.text == shown[found[wrong[0]]]]
    place = f"{len(key) - len(wrong)} of {len(key)} pairs are right. Look at {wrong[0] + 1}, {pair.left}: "
    return Verdict(False, (len(key) - len(wrong)) / len(key), place + " ".join(notes))


def _self(question: Self, given) -> Verdict:
    """`given` are the points of the rubric that the learner ticks; "0" ticks none."""
    ticked = [] if given in ("0", "", []) else sorted(set(positions(given, len(question.rubric), "point")))
    count = len(question.rubric)
    return Verdict(len(ticked) == count, len(ticked) / count, f"You ticked {len(ticked)} of {count} points.")


GRADERS = {
    Single: _single, Multi: _multi, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip


def right_answer(question: Question) -> str:
    """The key in words, for somebody who gives up; marks as in `positions`."""
    if isinstance(question, (Single, Multi)):
        return " and ".join(f"({chr(ord('a') + i)})" for i in question.key)
    if isinstance(question, Numeric):
        return f"{question.answer:,.10g} {question.unit}".strip()
    if isinstance(question, Output):
        return question.accept[0]
    if isinstance(question, Order):
        return " ".join(str(i + 1) for i in question.key)
    if isinstance(question, Match):
        return " ".join(f"{i + 1}{chr(ord('a') + place)}" for i, place in enumerate(question.key))
    return question.model_answer
