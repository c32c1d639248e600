"""A statement of completion, made on the learner's own machine; it says what it is, and what it is not."""

import hashlib
import json
from datetime import date
from html import escape

from .. import __version__
from ..check.lookup import lessons
from .page import page, table, tag
from .points import Summary, summary

WHAT_IT_IS = (
    "This statement was made by the course's own program, on the learner's own machine, from the learner's own log. It "
    "says which exercises passed the course's checks there, and with how much help."
)
WHAT_IT_IS_NOT = (
    "It is no certificate: nobody looked at who typed, the log is a file that can be edited, and the solutions are "
    "public. Who wants to know more can ask for an exercise to be explained, or the notebooks to be graded."
)


def statement_html(name: str, events: list[dict], today: date) -> str:
    """The page for `name`: every lesson that was begun, counted."""
    found = summary(events)
    rows = [row for row in (_row(one.id, found) for one in lessons().values()) if row]
    return page(
        f"Statement of completion: {name}",
        tag("h1", "Statement of completion"),
        tag("p", f"{name}, {today:%d %B %Y}, peft_from_scratch {__version__}"),
        table(["lesson", "exercises passed", "points", "with hints", "after the solution"], rows, (1, 2, 3, 4)),
        tag("p", _all_core(found), cls="card"),
        tag("h2", "What this is"),
        tag("p", WHAT_IT_IS),
        tag("h2", "What this is not"),
        tag("p", WHAT_IT_IS_NOT),
        tag("p", f"Fingerprint of the log's {len(events)} events (SHA-256): {fingerprint(events)}", cls="soft"),
    )


def fingerprint(events: list[dict]) -> str:
    """The same for the same events, wherever they are kept."""
    return hashlib.sha256("\n".join(json.dumps(event, sort_keys=True) for event in events).encode()).hexdigest()


def _row(id: str, found: Summary) -> list[str] | None:
    one = lessons()[id]
    each = [found.exercises[task.name] for task in one.exercises if task.name in found.exercises]
    if not each:
        return None
    most = sum(task.points for task in one.exercises)
    return [escape(f"{one.id} {one.title}"), f"{sum(e.passed for e in each)} of {len(one.exercises)}",
            f"{sum(e.best for e in each)} of {most}", str(sum(e.passed and e.hints > 0 for e in each)),
            str(sum(e.passed and e.solution for e in each))]  # fmt: skip


def _all_core(found: Summary) -> str:
    """Which lessons are complete: every core exercise passed."""
    done = [one.id for one in lessons().values()
            if all(task.name in found.exercises and found.exercises[task.name].passed
                   for task in one.exercises if task.tier == "core")]  # fmt: skip
    if not done:
        return "No lesson is complete yet: a lesson is complete when all its core exercises passed."
    return f"Complete, with all core exercises passed: lesson{'s' * (len(done) > 1)} {', '.join(done)}."
