"""hint(), solution() and start_from(): help on call. Each is recorded in the progress, none is forbidden."""

import re
from dataclasses import replace

from ..course.progress import log_event
from . import session
from .exercise import Exercise
from .grading import MISSING, execute, from_namespace, grade
from .lookup import UnknownName, exercise, lesson, lesson_of
from .report import own_answer, strict
from .words import say, short, wrap

STEPS = ("a question", "the equation", "the shape of the line")
_asked: dict[str, int] = {}


def hint(name: str, step: int | None = None) -> None:
    """Print a hint: a question, then the equation, then the shape of the line; `hint(name, 2)` picks one."""
    task = _find(name)
    if task is None:
        return
    step = min(_asked.get(name, 0) + 1, 3) if step is None else step
    if step not in (1, 2, 3):
        say(f"Hints have steps 1, 2 and 3, not {step!r}.")
        return
    _asked[name] = step
    log_event("hint", lesson=lesson_of(name).id, exercise=name, step=step)
    say(
        f"Hint {step} of 3, {STEPS[step - 1]}:",
        *(line for part in task.hints[step - 1].splitlines() for line in wrap("  " + part)),
    )
    if step == 3:
        say(f'That is the last one; solution("{name}") shows the reference.')


def solution(name: str) -> None:
    """Print the reference and one remark on the choice that matters."""
    task = _find(name)
    if task is None:
        return
    log_event("solution", lesson=lesson_of(name).id, exercise=name)
    say(task.reference.strip(), "", *wrap(task.remark, indent=""))


def start_from(place: str, namespace: dict | None = None) -> None:
    """start_from("04.4"): load the references of exercises 1 to 3 of lesson 04 into the notebook.

    An answer of your own that passes is kept.
    """
    space = session.caller_namespace() if namespace is None else namespace
    try:
        tasks = _before(place)
    except UnknownName as error:
        _refuse(error)
        return
    loaded, kept = [], []
    for task in tasks:
        if _passes(task, space):
            kept.append(task.defines)
        elif not _load(task, space):
            return
        else:
            loaded.append(task.defines)
    log_event("start_from", lesson=place.split(".")[0], place=place, loaded=loaded, kept=kept)
    say(
        *wrap(
            f"Ready for {place}. Loaded: {', '.join(loaded) or 'nothing'}."
            + (f" Kept your own: {', '.join(kept)}." if kept else "")
        )
    )


def _find(name: str) -> Exercise | None:
    try:
        return exercise(name)
    except UnknownName as error:
        _refuse(error)
        return None


def _refuse(error: UnknownName) -> None:
    if strict():
        raise error
    say(*wrap(str(error)))


def _before(place: str) -> tuple[Exercise, ...]:
    parts = re.fullmatch(r"(\w+)\.(\d+)", str(place))
    if parts is None:
        raise UnknownName(f'Write start_from("04.4") for exercise 4 of lesson 04; {place!r} is not of that form.')
    one, number = lesson(parts[1]), int(parts[2])
    last = len(one.exercises)
    if not 1 <= number <= last + 1:  # one past the last: all of them, for what follows the exercises
        raise UnknownName(f"Lesson {one.id} has exercises 1 to {last}; there is no number {number}.")
    return one.exercises[: number - 1]


def _passes(task: Exercise, space: dict) -> bool:
    answer = MISSING if any(each in session.failures for each in task.names) else own_answer(task, space)
    return answer is not MISSING and grade(replace(task, time_limit=1.0), answer).passed


def _load(task: Exercise, space: dict) -> bool:
    lacking = [each for each in task.needs if each not in space]
    try:
        if lacking:
            raise NameError(f"{', '.join(lacking)} not defined")
        execute(task.reference, space, f"reference of {task.name}")
    except Exception as error:
        _refuse(
            UnknownName(
                f"{task.name} could not be loaded ({short(error)}). "
                "Run the setup cell at the top of the notebook first."
            )
        )
        return False
    session.forget(*task.names)
    built = from_namespace(task, space)
    several = len(task.names) > 1
    session.keep(task.names, built if several else (built,), (MISSING,) * len(task.names))
    return True
