"""The child: run one answer, put back what it replaced, grade it, and see whether known-wrong answers still fail."""

import builtins
import gc
from dataclasses import dataclass
from functools import partial

from ...check.exercise import Exercise
from ...check.grading import Result, execute, from_namespace, grade
from ...check.isolation import isolated
from ...check.session import defined_names
from ...check.timelimit import OutOfTime, time_limit
from ...check.words import what_happened
from . import guards, liars, seal, trust
from .rehearsal import Rehearsal, Stage, foreign, plain

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
PACKAGE = "peft_from_scratch"
ALIVE: list[dict] = []  # names of answers: none of their finalizers may run between the verdict and the report


@dataclass(frozen=True)
class Case:
    """One answer to judge: its text, and those before it that passed; `draw` chooses the canaries."""

    rehearsal: Rehearsal
    stage: Stage
    source: str
    earlier: tuple[str, ...]
    recorded: guards.Guards
    seconds: float
    draw: int


def judge(case: Case, refused: list[str]) -> dict:
    """{status, points, max_points, lines, advice, failed, notes} of one answer. `refused` is the police's book."""
    trust.hide_references(case.rehearsal.lesson)
    gc.disable()
    task, classes, space = trust.private(case.stage.task), liars.classes(), _names(case)
    ALIVE.append(space)
    for source in case.earlier:
        _execute(source, space, case.seconds)
    trust.put_back(case.recorded)
    refused.clear()  # theirs was noted when they were judged
    stopped = _execute(case.source, space, case.seconds)
    trust.silence()
    notes = trust.put_back(case.recorded)
    with seal.Sealed(case.recorded) as sealed:
        result = _nothing(task, "error", stopped) if stopped else _graded(task, space, case.source)
    fault = sealed.broken or trust.fault(case.recorded, classes)
    if not fault and result.points and (wrong := trust.canary(task, case.stage.names, case.draw, case.seconds)):
        fault = f"a known-wrong answer passes beside it ({wrong})"
    if fault:
        result = _nothing(task, "tampered", f"not graded: {fault}.")
    if "NameError" in str(result.first_failure):
        notes.append("only this cell is graded: what it uses must stand in it, or in the lesson")
    return _as_dict(result, notes + [f"it tried to {each}, which was refused" for each in dict.fromkeys(refused)])


def _names(case: Case) -> dict:
    """The lesson's names at this exercise; what would print or log a verdict does nothing here."""
    for stage in case.rehearsal.stages:  # the lesson's own functions must not see the references either
        for name in stage.task.names:
            case.rehearsal.live.pop(name, None)
    ours = (f"{PACKAGE}.check", f"{PACKAGE}.quiz")
    quiet = {name: _quiet for name, value in case.stage.names.items()
             if str(getattr(value, "__module__", "")).startswith(ours)}  # fmt: skip
    space = case.stage.names | quiet
    for name in case.stage.task.names:
        space.pop(name, None)
    space["check"] = partial(_own, space)
    return space


def _quiet(*args, **kwargs) -> None:
    """In place of hint, solution, predict, reveal, quiz."""


def _own(space: dict, name: str, defines: str = "", namespace: object = None) -> object:
    """In place of check, where an answer calls it in its own cell: what it checks is handed back."""
    values = tuple(space.get(each.strip()) for each in defines.split(","))
    return values[0] if len(values) == 1 else values


def _execute(source: str, space: dict, seconds: float) -> str | None:
    """Run a cell; one sentence where it stopped."""
    if magic := foreign(source):
        return f"the cell begins with `{magic}`, so it defines nothing in the notebook; take that line out."
    try:
        with isolated(0), time_limit(seconds):
            execute(plain(source), space, "answer")
    except OutOfTime:
        return f"the cell did not end within {seconds:g} seconds."
    except SyntaxError as error:
        return f"the cell cannot be read: {error.msg} in line {error.lineno}: `{(error.text or '').strip()[:80]}`."
    except BaseException as error:  # SystemExit, KeyboardInterrupt: it is the learner's
        return what_happened(error).replace("your code", "the cell", 1)
    return None


def _graded(task: Exercise, space: dict, source: str) -> Result:
    missing = [name for name in task.names if name not in space]
    if missing:
        others = sorted(defined_names(source) - set(task.names))
        return _nothing(task, "missing", f"`{missing[0]}` is not defined"
                        + (f"; the cell defines {', '.join(others[:3])}." if others else "."))  # fmt: skip
    answer = from_namespace(task, space)
    if _is_package(answer):
        return _nothing(task, "copied", "the answer is the package's own, imported; write it yourself.")
    if task.kind != "code" and not liars.is_plain(answer):
        return _nothing(
            task, "tampered", "the value is of a class of its own making; give plain numbers, texts, lists."
        )
    return grade(task, answer)


def _is_package(answer: object) -> bool:
    """Whether an answer, or a class it is built on, is one of the package's methods."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    made = [each for part in parts for each in (part.__mro__ if isinstance(part, type) else (part,))]
    return any(str(getattr(each, "__module__", "")).startswith((f"{PACKAGE}.methods", f"{PACKAGE}.check"))
               for each in made if callable(each)) or any(
        callable(part) and str(getattr(part, "__module__", "")).startswith(PACKAGE) for part in parts)  # fmt: skip


def _nothing(task: Exercise, status: str, advice: str) -> Result:
    return Result(task.name, status, 0, task.points, (f"✗ {advice}",), advice)


def _as_dict(result: Result, notes: list[str]) -> dict:
    return {
        "status": result.status, "points": result.points, "max_points": result.max_points,
        "lines": list(result.lines), "advice": result.first_failure, "failed": list(result.failed), "notes": notes,
    }  # fmt: skip
