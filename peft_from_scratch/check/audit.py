"""audit(): does an exercise reject its wrong answers, and say why? A test demands that it finds nothing."""

import math
import re

from .exercise import Exercise, Wrong
from .grading import CAP, Result, execute, from_namespace, grade
from .lookup import lesson_of
from .museum import recognised
from .words import short

MIN_WRONG = 5


def scratch(exercise: Exercise, namespace: dict | None = None) -> dict:
    """A namespace as a notebook has it at this exercise: torch, nn, F, math, `namespace`, the earlier references."""
    import torch

    space = {"__builtins__": __builtins__, "torch": torch, "nn": torch.nn, "F": torch.nn.functional, "math": math}
    space |= namespace or {}
    for earlier in lesson_of(exercise.name).exercises:
        if earlier.name == exercise.name:
            return space
        execute(earlier.reference, space, f"reference of {earlier.name}")
    return space


def audit(exercise: Exercise, namespace: dict | None = None) -> list[str]:
    """What is wrong with an exercise, in sentences; empty where all is well. `namespace` adds the names it `needs`."""
    space = scratch(exercise, namespace)
    found = [] if len(exercise.wrong) >= MIN_WRONG else [f"fewer than {MIN_WRONG} wrong answers"]
    if re.search(r"\bpeft_from_scratch\b", exercise.reference):
        found.append("the reference imports the package, which proves nothing")
    reference = _graded(exercise, exercise.reference, space)
    if not reference.passed:
        found.append(f"the reference does not pass: {reference.first_failure}")
    results = {wrong: _graded(exercise, wrong.source, space) for wrong in exercise.wrong}
    for wrong, result in results.items():
        found += [f"wrong answer {wrong.name!r}: {fault}" for fault in _faults(exercise, wrong, result)]
    failed = {name for result in results.values() for name in result.failed}
    found += [
        f"no wrong answer fails the property {prop.name!r}" for prop in exercise.properties if prop.name not in failed
    ]
    return [f"{exercise.name}: {fault}" for fault in found]


def _graded(exercise: Exercise, source: str, space: dict) -> Result:
    try:
        answer = from_namespace(exercise, execute(source, dict(space), f"answer to {exercise.name}"))
    except Exception as error:
        raise ValueError(f"{exercise.name}: this cell body stops with {short(error)}\n{source}") from error
    return grade(exercise, answer)


def _faults(exercise: Exercise, wrong: Wrong, result: Result) -> list[str]:
    faults = ["it passes"] if result.passed else []
    if result.points * 100 > CAP * result.max_points:
        faults.append(f"it scores {result.points} of {result.max_points} points, more than {CAP} %")
    said = " ".join([result.first_failure or "", *result.failed])
    if not re.search(wrong.says, said, re.IGNORECASE):
        faults.append(f"the feedback does not say {wrong.says!r}: {said}")
    exhibit = recognised(exercise, result)
    if wrong.museum and (exhibit is None or exhibit.museum != wrong.museum):
        faults.append(f"the museum would not show {wrong.museum!r} for it")
    return faults
