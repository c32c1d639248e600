"""Run a pristine lesson once, with the references as answers, and keep the names as they are at each exercise."""

import os
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field

from ...check.exercise import Exercise, Lesson
from ...check.grading import execute, grade
from ...check.words import short
from ..errors import CourseError
from ..lessons import notebook_path
from .reading import Cell, read_cells

_CHECK = re.compile(r"""^(?!\s*#).*\bcheck\(\s*["']([^"']+)["']""", re.MULTILINE)

_STILL_PYTHON = ("%%time", "%%capture")


@dataclass(frozen=True)
class Stage:
    """An exercise, its untouched cell, and the names that the lesson has defined when it is posed."""

    task: Exercise
    stub: str
    names: dict = field(repr=False)


@dataclass(frozen=True)
class Rehearsal:
    """`live` is what the lesson's own functions read; `cells` the texts of all pristine cells."""

    lesson: Lesson
    stages: tuple[Stage, ...]
    cells: frozenset[str]
    live: dict = field(repr=False)


def rehearse(lesson: Lesson) -> Rehearsal:
    """Run the code cells up to the last check. A cell between the exercises may fail (a figure, a saved run that is
    not here); CourseError where a reference does not pass, so that no learner pays for what is missing.
    """
    tasks = {each.name: each for each in lesson.exercises}
    cells, _ = read_cells(notebook_path(lesson))
    names: dict = {"__name__": "__main__", "__builtins__": __builtins__}
    stages, failed = [], ""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for number, cell in enumerate(cells[: _last_check(cells) + 1]):
            task, title = tasks.get(cell.exercise), f"lesson {lesson.id}, code cell {number}"
            if task:
                stages.append(Stage(task, cell.source, dict(names)))
            said = _run(task.reference if task else plain(cell.source), names, title)
            failed = failed or (f" {title} stopped with {said}." if said else "")
            if task and not grade(task, names).passed:
                raise CourseError(f"The reference of {task.name} does not pass here, so nothing can be graded.{failed}")
    missing = [name for name in tasks if name not in {stage.task.name for stage in stages}]
    if missing:
        raise CourseError(f"The notebook of lesson {lesson.id} has no cell for {', '.join(missing)}.")
    return Rehearsal(lesson, tuple(stages), frozenset(cell.source.strip() for cell in cells), names)


def foreign(source: str) -> str:
    """The magic that hands a whole cell to something else than this notebook's Python: "%%bash"; else ""."""
    first = (source.split(maxsplit=1) or [""])[0]
    return first if first.startswith("%%") and first not in _STILL_PYTHON else ""


def plain(source: str) -> str:
    """A cell without IPython's own syntax: `%pip install ...` becomes `pass`."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def _run(source: str, names: dict, title: str) -> str:
    """Run a cell; "" or what stopped it."""
    try:
        execute(source, names, title)
    except Exception as error:
        return short(error)
    return ""


def _last_check(cells: list[Cell]) -> int:
    return max((number for number, cell in enumerate(cells) if _CHECK.search(cell.source)), default=-1)
