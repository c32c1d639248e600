"""The bug museum: who writes a fault that was really trained once is shown what became of it.

A known-wrong answer names its run (`Wrong(..., museum="both zero")`) in results/lessons/NN_museum.json. The first run
there is the one without a fault.
"""

import re

from ..course.saved import saved
from .exercise import Exercise, Wrong
from .grading import Result
from .lookup import lesson_of
from .words import say, wrap


def exhibit(task: Exercise, result: Result) -> None:
    """Show the curve of the fault that this failed answer has, if there is one. In a notebook with its figure."""
    fault = recognised(task, result)
    if fault is None:
        return
    from ..plots import museum, show  # matplotlib is loaded for who fails in this way only

    runs = saved(f"{lesson_of(task.name).id}_museum")["runs"]
    right, faulty = next(iter(runs)), runs[fault.museum]
    say(*wrap(f"From the bug museum: this fault was trained once ({fault.museum}).{shipped(faulty)}"))
    show(*museum({right: runs[right], fault.museum: faulty}, expected=right))


def recognised(task: Exercise, result: Result) -> Wrong | None:
    """The exhibited wrong answer whose feedback is what was said of this one."""
    said = " ".join([result.first_failure or "", *result.failed])
    fits = (wrong for wrong in task.wrong if wrong.museum and re.search(wrong.says, said, re.IGNORECASE))
    return next(fits, None) if result.status == "failed" else None


def shipped(run: dict) -> str:
    return f" It was shipped: {run['shipped']}." if run.get("shipped") else ""
