"""A learner's page: what passed, what to look at first, and the code that was graded."""

from html import escape

from ...check.exercise import Exercise
from ...check.lookup import lesson
from ..page import bar, page, raw, tag
from .totals import totals

WORDS = {
    "passed": "passed", "failed": "not yet", "unwritten": "not written", "missing": "not found", "error": "stopped",
    "time": "did not end", "died": "ended itself", "tampered": "not graded", "copied": "not your own",
}  # fmt: skip


def feedback(learner: str, record: dict) -> str:
    """The page as HTML."""
    if "error" in record:
        return page(f"Feedback for {learner}", tag("h1", "Your notebook could not be graded"),
                    raw("p", escape(f"It is for {learner}. What happened: {record['error']}"), cls="card look"),
                    tag("p", "Open it in Jupyter, save it, and hand it in again."))  # fmt: skip
    one = lesson(record["lesson"])
    points, most = totals(record)
    tasks = {task.name: task for task in one.exercises}
    return page(
        f"{one.id} {one.title}: feedback for {learner}",
        tag("h1", f"{one.id} {one.title}"),
        tag("p", f"Feedback for {learner}: {points} of {most} points.", cls="soft"),
        bar(points / most if most else 0),
        *(_first_step(tasks, record)),
        *(_exercise(tasks[name], mark) for name, mark in record["marks"].items() if name in tasks),
        *(_notes(record["notes"])),
        tag("p", "A check is a program: it sees what your code does, not what you understood. Is it wrong? Say so.",
            cls="soft"),
    )  # fmt: skip


def _first_step(tasks: dict[str, Exercise], record: dict) -> list[str]:
    """The first exercise that did not pass, with its advice."""
    for name, mark in record["marks"].items():
        if mark["status"] != "passed" and name in tasks:
            said = f"Start with “{tasks[name].title}”: {mark['advice']}"
            return [raw("p", code_marks(said), cls="card look")]
    return [tag("p", "Everything passed.", cls="card done")]


def _exercise(task: Exercise, mark: dict) -> str:
    passed = mark["status"] == "passed"
    lines = "".join(raw("li", _sign(line)) for line in _whole(mark["lines"]) if " points: " not in line)
    parts = [
        raw("h2", escape(task.title.rstrip(".")) + " "
            + tag("span", WORDS.get(mark["status"], mark["status"]), cls="good" if passed else "bad")),
        tag("p", f"{task.name}, {mark['points']} of {mark['max_points']} points", cls="soft"),
        raw("ul", lines, cls="plain") if lines else raw("p", code_marks(_sentence(mark["advice"]))),
        *_notes(mark["notes"]),
    ]  # fmt: skip
    if mark.get("source"):
        parts.append(
            raw("details", tag("summary", "The code that was graded") + raw("pre", tag("code", mark["source"])))
        )
    return raw("section", "\n".join(parts))


def _notes(notes: list[str]) -> list[str]:
    return [tag("p", "Note: " + "; ".join(notes) + ".", cls="soft")] if notes else []


def _whole(lines: list[str]) -> list[str]:
    """The check's lines as before they were wrapped for a terminal."""
    whole: list[str] = []
    for line in lines:
        if line.startswith("  ") and whole:
            whole[-1] += " " + line.strip()
        else:
            whole.append(line)
    return whole


def _sign(line: str) -> str:
    kind = "good" if line.startswith("✓") else "bad" if line.startswith("✗") else "soft"
    return tag("span", line[:1], cls=kind) + code_marks(line[1:])


def code_marks(text: str) -> str:
    """`code` in the checks' sentences as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 and at < len(parts) - 1 else part for at, part in enumerate(parts))


def _sentence(text: str | None) -> str:
    text = (text or "").strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".") if text else ""
