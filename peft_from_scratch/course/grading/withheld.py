"""What no answer needs, and what raises no audit event when it is called: taken away before an answer runs.

Threads would outlive it; an operator of torch written anew would change every comparison; and a signal's handler is
given the frame that it interrupts, which leads to the grader's variables.
"""

import _signal
import _thread
import signal
import threading
from types import FunctionType, SimpleNamespace

import torch

from ...check import timelimit


def _refusal(what: str) -> FunctionType:
    """A function that refuses; its globals lead nowhere."""

    def refuse(*args: object, **named: object) -> None:
        raise PermissionError(f"while it is graded, code may not {what}")

    return FunctionType(refuse.__code__, {"PermissionError": PermissionError}, "refuse", None, refuse.__closure__)


_no_thread, _no_signal = _refusal("start a thread"), _refusal("use signals")
_no_operator = _refusal("register an operator of torch")
_THREADS = ("start_new_thread", "start_new", "start_joinable_thread", "_start_new_thread", "_start_joinable_thread")
_SIGNALS = ("signal", "setitimer", "raise_signal", "alarm", "pthread_sigmask", "set_wakeup_fd", "siginterrupt")
_CLOCK = SimpleNamespace(**{name: getattr(_signal, name) for name in ("signal", "setitimer", "SIGALRM", "ITIMER_REAL")})
_WITHHELD = (
    *((owner, name, _no_thread) for owner in (_thread, threading) for name in _THREADS),
    *((owner, name, _no_signal) for owner in (_signal, signal) for name in _SIGNALS),
    (torch._C, "_dispatch_library", _no_operator),
    (timelimit, "signal", _CLOCK),  # the check's own time limit goes on as before
)


def withhold() -> list[tuple[object, str, object]]:
    """Put a refusal in the place of each. Returns what stood there."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _WITHHELD if hasattr(owner, name)]
    for owner, name, instead in _WITHHELD:
        if hasattr(owner, name):
            setattr(owner, name, instead)
    return before


def give_back(before: list[tuple[object, str, object]]) -> None:
    for owner, name, old in before:
        setattr(owner, name, old)
