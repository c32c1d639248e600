"""Whether a verdict can be trusted: what is kept from an answer's reach, what is put back, what gives it away."""

import _signal
import _thread
import builtins
import random
import signal
import sys
from dataclasses import replace

import torch

from ...check.exercise import Exercise, Lesson
from ...check.grading import execute, from_namespace, grade
from ...check.isolation import isolated
from ...check.timelimit import OutOfTime, time_limit
from . import guards, liars

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
CANARIES = 3
_setitimer, _on_signal = _signal.setitimer, _signal.signal  # an answer's process has others under these names


def hide_references(lesson: Lesson) -> None:
    """Answers may not be taken from memory either."""
    for task in lesson.exercises:
        for field in ("reference", "remark", "hints"):
            object.__setattr__(task, field, "")


def private(task: Exercise) -> Exercise:
    """A copy that no code can look up by name and change; the reference is not in it."""
    copy = object.__new__(Exercise)
    for name, value in vars(task).items():
        object.__setattr__(copy, name, value)
    for name in ("properties", "wrong"):
        object.__setattr__(copy, name, tuple(replace(each) for each in getattr(task, name)))
    return copy


def silence() -> None:
    """No timer and no signal handler of an answer's runs while it is graded."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        _setitimer(timer, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGXFSZ}:
        _on_signal(number, _signal.SIG_DFL)


def put_back(recorded: guards.Guards) -> list[str]:
    """Restore what an answer replaced; one note on it."""
    names = guards.restore(guards.changes(recorded))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"it replaced {', '.join(names[:3])}{more}, which was put back before grading"] if names else []


def fault(recorded: guards.Guards, classes: set[type]) -> str | None:
    """What an answer did to its judge, or None. `classes` are those that were there before it ran."""
    if late := guards.restore(guards.changes(recorded)):  # first: the others ask what is guarded
        return f"the code replaced {late[0]} while it was graded"
    if liars_found := liars.new_liars(classes):
        return f"the class {liars_found[0]} passes for a tensor, a number or a container that it is not"
    if sys.gettrace() or sys.getprofile():
        return "the code traces the grader"
    if _thread._count():  # besides the main one
        return "the code left a thread running"
    if modes() != _NO_MODES:
        return "the code left a mode of torch on, which could change every result"
    return None


def modes() -> tuple:
    """What is switched on in torch for this thread, beside gradients: modes, dispatch keys, hooks on saved tensors."""
    C, keys = torch._C, torch._C.DispatchKey.__members__.values()
    on = [key for key in keys if C._dispatch_tls_is_dispatch_key_included(key)]
    off = [key for key in keys if C._dispatch_tls_is_dispatch_key_excluded(key)]
    hooked = C._autograd._top_saved_tensors_default_hooks(True) is not None
    return C._len_torch_function_stack(), C._len_torch_dispatch_stack(), hooked, on, off


_NO_MODES = modes()


def canary(task: Exercise, names: dict, draw: int, seconds: float) -> str | None:
    """The name of a known-wrong answer that is accepted in this process, where no wrong one should be."""
    for each in random.Random(draw).sample(task.wrong, min(CANARIES, len(task.wrong))):
        space = dict(names)
        try:
            with isolated(0), time_limit(seconds):
                execute(each.source, space, "canary")
        except (Exception, OutOfTime):
            continue
        if grade(task, from_namespace(task, space)).passed:
            return each.name
    return None
