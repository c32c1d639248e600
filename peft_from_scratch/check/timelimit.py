"""Stop code that does not end: a timer signal where there is one, else an exception set from a watchdog thread."""

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTime(BaseException):
    """Not an Exception, so that a learner's `except Exception` inside an endless loop does not swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the body after `seconds`. The former handler and timer are put back.

    One long call into C (a huge matmul) is stopped only when it returns to Python.
    """
    in_main = threading.current_thread() is threading.main_thread()
    with (_by_signal if hasattr(signal, "setitimer") and in_main else _by_thread)(max(seconds, 0.01)):
        yield


@contextmanager
def _by_signal(seconds: float) -> Iterator[None]:
    def stop(signum, frame):
        raise OutOfTime

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)  # repeats: a bare `except:` may swallow the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if timer[0]:
            signal.setitimer(signal.ITIMER_REAL, *timer)


@contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    thread, lock, over = threading.get_ident(), threading.Lock(), threading.Event()

    def watch():
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    _raise_in(thread, OutOfTime)
            wait = 0.5

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            over.set()
            _raise_in(thread, None)  # takes back one that was set and not yet raised


def _raise_in(thread: int, kind: type | None) -> None:
    raised = ctypes.py_object(kind) if kind else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
