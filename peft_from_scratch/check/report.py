"""check(): grade the learner's object, print the verdict, log it, and hand back an object the lesson can go on with."""

import os

from ..course.progress import log_event, read_events
from . import session
from .exercise import Exercise
from .grading import MISSING, Result, execute, from_namespace, grade
from .lookup import UnknownName, exercise, lesson_of, near
from .museum import exhibit
from .words import say, short, wrap

MANY_TRIES = 3


class CheckFailed(Exception):
    """Raised only under PFS_STRICT=1: an exercise was not passed."""


def strict() -> bool:
    return os.environ.get("PFS_STRICT", "") not in ("", "0")


def check(name: str, defines: str | None = None, namespace: dict | None = None) -> object:
    """Grade exercise `name`: `lora_forward = check("lora.forward", "lora_forward")`.

    The object is looked up by name in the caller's globals. Returns it, or the reference where it does not pass
    (and says so; a prediction is always the learner's own). Never raises, except CheckFailed under PFS_STRICT=1.
    """
    session.watch()
    space = session.caller_namespace() if namespace is None else namespace
    try:
        task = exercise(name)
    except UnknownName as error:
        return _unknown(str(error), defines, space)
    answer = own_answer(task, space)
    result = _stopped(task, space) or (grade(task, answer) if answer is not MISSING else _missing(task, space))
    say(*result.lines)
    exhibit(task, result)
    tries = _log(result)
    if result.status == "failed" and tries >= MANY_TRIES:
        say(f'Stuck? hint("{name}") helps, in three steps.')
    if strict() and not result.passed:
        raise CheckFailed(f"{name}: {result.first_failure}")
    if result.passed:
        return answer
    if task.kind == "prediction":  # nobody else's guess is put in its place
        return _own_guess(task, answer)
    return _reference(task, answer, space, quiet=result.status == "unwritten")


def own_answer(task: Exercise, space: dict) -> object:
    """The learner's own answer, also after an earlier check put the reference in its place."""
    own = dict(space)
    for each in task.names:
        reference, learners = session.handed_out.get(each, (MISSING, MISSING))
        if each in space and space[each] is reference:
            own[each] = learners
    return from_namespace(task, own)


def _stopped(task: Exercise, space: dict) -> Result | None:
    name = next((each for each in task.names if each in session.failures), None)
    if name is None:
        return None
    older = " The older version is not graded." if name in space else ""
    return _not_graded(task, f"the cell that defines {name} stopped with {session.failures[name]}.{older}")


def _missing(task: Exercise, space: dict) -> Result:
    name = next((each for each in task.names if each not in space), None)
    if name is None:
        return _not_graded(task, f"`{task.defines}` is the reference's: run the cell that defines yours first.")
    alike = near(name, [each for each in space if not each.startswith("_")])
    return _not_graded(
        task,
        f"`{name}` is not defined. "
        + (alike if alike.startswith("Did") else "Run the cell that defines it, then this one."),
    )


def _not_graded(task: Exercise, advice: str) -> Result:
    return Result(task.name, "missing", 0, task.points, tuple(wrap(f"✗ {task.name}: {advice}")), advice)


def _own_guess(task: Exercise, answer: object) -> object:
    if answer is not MISSING:
        return answer
    return ... if len(task.names) == 1 else (...,) * len(task.names)


def _reference(task: Exercise, answer: object, space: dict, quiet: bool) -> object:
    try:
        built = from_namespace(task, execute(task.reference, dict(space), f"reference of {task.name}"))
    except Exception as error:
        say(*wrap(f"The reference could not be loaded ({short(error)}): run the cells above first."))
        return None if answer is MISSING else answer
    several = len(task.names) > 1
    nothing = (MISSING,) * len(task.names)
    session.keep(
        task.names, built if several else (built,), nothing if answer is MISSING else answer if several else (answer,)
    )
    if not quiet:
        say(f"Until yours passes, the lesson goes on with the reference's {task.defines}.")
    return built


def _log(result: Result) -> int:
    """Append the result; returns how often the exercise was tried without a pass in between."""
    log_event(
        "check",
        lesson=lesson_of(result.exercise).id,
        exercise=result.exercise,
        status=result.status,
        points=result.points,
        max_points=result.max_points,
        first_failure=result.first_failure,
    )
    tries = 0
    for event in read_events():
        if event.get("kind") == "check" and event.get("exercise") == result.exercise:
            tries = 0 if event.get("status") == "passed" else tries + (event.get("status") == "failed")
    return tries


def _unknown(message: str, defines: str | None, space: dict) -> object:
    if strict():
        raise CheckFailed(message)
    say(*wrap(message))
    return space.get(defines) if defines else None
