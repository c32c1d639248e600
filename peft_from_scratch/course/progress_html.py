"""A learner's progress as one HTML page: the next step, each lesson's exercises and quiz, predictions."""

from html import escape

from ..check.exercise import Exercise, Lesson
from ..check.lookup import lessons
from ..check.predictions import calibration
from .page import bar, page, table, tag
from .points import ExercisePoints, Summary, summary
from .show import next_step


def progress_html(events: list[dict]) -> str:
    """The whole page."""
    found = summary(events)
    begun = [one for one in lessons().values() if _begun(one, found)]
    most = sum(task.points for one in lessons().values() for task in one.exercises)
    return page(
        "Your progress",
        tag("h1", "Your progress"),
        tag(
            "p", f"{found.points} of {most} points in the whole course, {_passed(found)} exercises passed.", cls="soft"
        ),
        bar(found.points / most if most else 0),
        *(tag("p", line, cls="card") for line in next_step(found)),
        *(part for one in begun for part in _lesson(one, found)),
        *([] if begun else [tag("p", "Nothing checked yet. Open a notebook and run its first check.")]),
        tag("h2", "Predictions"),
        tag("pre", calibration()),
        tag("p", "This page was made on your machine, from your own log. Nothing was sent anywhere.", cls="soft"),
    )


def _lesson(one: Lesson, found: Summary) -> list[str]:
    rows = [_row(task, found.exercises.get(task.name)) for task in one.exercises]
    heads = ["state", "exercise", "points", "tries", "hints", "solution"]
    return [tag("h2", f"{one.id} {one.title}"), table(heads, rows, (2, 3, 4)), *_quiz(one, found)]


def _row(task: Exercise, each: ExercisePoints | None) -> list[str]:
    each = each or ExercisePoints("")
    sign = "✓" if each.passed else "·" if not each.tries else "○"
    said = {"✓": "passed", "○": "not yet", "·": "not tried"}[sign]
    return [f'<span role="img" aria-label="{said}">{sign}</span>', escape(task.title), f"{each.best} of {task.points}",
            str(each.tries or ""), str(each.hints or ""), "seen" if each.solution else ""]  # fmt: skip


def _quiz(one: Lesson, found: Summary) -> list[str]:
    named = [(name, each) for name, each in found.quizzes.items() if name.split("_")[0] == one.id]
    return [tag("p", f"Quiz {name}: {len(each.right)} right, {len(each.right_first)} of them at the first try, "
                f"{len(each.questions)} answered.") for name, each in named]  # fmt: skip


def _begun(one: Lesson, found: Summary) -> bool:
    return any(task.name in found.exercises for task in one.exercises) or bool(_quiz(one, found))


def _passed(found: Summary) -> int:
    return sum(each.passed for each in found.exercises.values())
