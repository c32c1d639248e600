"""grade(): run an exercise's properties on an answer. It prints nothing, stores nothing and never raises."""

import inspect
import linecache
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from .exercise import Exercise, Property
from .isolation import isolated
from .timelimit import OutOfTime, time_limit
from .unwritten import has_empty_body, has_gap
from .words import learner_frame, what_happened, wrap

MISSING = object()
CAP = 40  # per cent of the points, where a core property fails


@dataclass(frozen=True)
class Result:
    """`status` is passed, failed, unwritten (still `...`) or missing (no such name)."""

    exercise: str
    status: str
    points: int
    max_points: int
    lines: tuple[str, ...]
    first_failure: str | None = None
    failed: tuple[str, ...] = ()  # names of the properties that did not hold

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def grade(exercise: Exercise, answer: object) -> Result:
    """Grade an answer, or a namespace that holds it: a dict with the defined names or with `__builtins__`."""
    if isinstance(answer, dict) and ("__builtins__" in answer or all(name in answer for name in exercise.names)):
        answer = from_namespace(exercise, answer)
    if answer is MISSING:
        advice = f"`{exercise.defines}` is not defined: run the cell that defines it, then this one."
        return _nothing(exercise, "missing", tuple(wrap(f"✗ {exercise.name}: {advice}")), advice)
    if all(has_gap(part) for part in _parts(exercise, answer)):
        return unwritten(exercise)
    fault = _wrong_kind(exercise, answer)
    if fault:
        return _nothing(exercise, "failed", tuple(wrap(f"✗ {fault}")), fault)
    result = _run(exercise, answer)
    stub = not result.passed and any(has_empty_body(each) for each in _parts(exercise, answer))
    return unwritten(exercise) if stub else result


def from_namespace(exercise: Exercise, namespace: Mapping) -> object:
    """The answer in a namespace: one object, a tuple for several names, or MISSING."""
    values = tuple(namespace.get(name, MISSING) for name in exercise.names)
    if any(each is MISSING for each in values):
        return MISSING
    return values[0] if len(values) == 1 else values


def unwritten(exercise: Exercise) -> Result:
    return _nothing(exercise, "unwritten", (f"○ {exercise.name}: not written yet",), "not written yet")


def execute(source: str, namespace: dict, title: str) -> dict:
    """Run a cell body in a namespace, so that an error in it can show its line."""
    filename = f"<{title}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), namespace)
    return namespace


def seeded(exercise: Exercise, part: str):
    """A torch.Generator seeded by PFS_SEED and the names: adding a property leaves the others' inputs as they were."""
    import torch

    return torch.Generator().manual_seed(_seed(exercise.name + "/" + part))


def _seed(name: str) -> int:
    return zlib.crc32(f"{os.environ.get('PFS_SEED', '0')}/{name}".encode())


def _nothing(exercise: Exercise, status: str, lines: tuple[str, ...], advice: str) -> Result:
    return Result(exercise.name, status, 0, exercise.points, lines, advice)


def _parts(exercise: Exercise, answer: object) -> tuple:
    return tuple(answer) if len(exercise.names) > 1 and isinstance(answer, tuple) else (answer,)


def _wrong_kind(exercise: Exercise, answer: object) -> str | None:
    for name, part in zip(exercise.names, _parts(exercise, answer), strict=False):
        if part is Ellipsis:
            return f"`{name}` is still `...`: fill it in too."
        if exercise.kind == "code" and not callable(part):
            return f"`{name}` is of type {type(part).__name__}; a function or a class is wanted."
        values = part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else ()
        if any(value is Ellipsis for value in values):
            return f"a `...` is left in `{name}`: fill it in too."
    return None


def _run(exercise: Exercise, answer: object) -> Result:
    ends = time.monotonic() + exercise.time_limit
    failures: dict[str, str | None] = {}
    for prop in exercise.properties:
        advice, stopped = _try(exercise, prop, answer, ends - time.monotonic())
        if advice:
            failures[prop.name] = advice
        if stopped:
            break
    return _result(exercise, failures, tried=exercise.properties.index(prop) + 1)


def _try(exercise: Exercise, prop: Property, answer: object, seconds: float) -> tuple[str | None, bool]:
    """(advice or None, whether time ran out)."""
    code = getattr(inspect.unwrap(prop.test), "__code__", None)
    own = (code.co_filename,) if code else ()
    try:
        with isolated(_seed(exercise.name)), time_limit(seconds):
            prop.test(answer, seeded(exercise, prop.name))
    except OutOfTime:
        return f"stopped after {exercise.time_limit:g} seconds: does a loop in your code never end?", True
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: an exit() in an answer must not end the kernel
        if isinstance(error, AssertionError) and not learner_frame(error, own):
            return str(error) or "this does not hold.", False
        return what_happened(error, own), False
    return None, False


def _result(exercise: Exercise, failures: dict, tried: int) -> Result:
    lines: list[str] = []
    first = None
    for number, prop in enumerate(exercise.properties):
        if number >= tried:
            lines += wrap(f"– {prop.name} (not tried)")
        elif prop.name not in failures:
            lines += wrap(f"✓ {prop.name}")
        else:
            lines += wrap(f"✗ {prop.name}" + (f": {failures[prop.name]}" if first is None else ""))
            first = first or f"{prop.name}: {failures[prop.name]}"
    kept = [prop for number, prop in enumerate(exercise.properties) if number < tried and prop.name not in failures]
    points = exercise.points * sum(prop.points for prop in kept) // sum(prop.points for prop in exercise.properties)
    if any(prop.core and prop not in kept for prop in exercise.properties):
        points = min(points, exercise.points * CAP // 100)
    lines += wrap(f"{points} of {exercise.points} points: {exercise.name}")
    return Result(
        exercise.name, "failed" if failures else "passed", points, exercise.points, tuple(lines), first, tuple(failures)
    )
