"""Time as a ratio: A and B take turns, so that what else the machine does falls on both."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class TimeRatio(NamedTuple):
    """Seconds of A over seconds of B."""

    minimum: float  # fastest A / fastest B: noise only ever adds time
    median: float  # of the ratio within a round; with its lower and upper quartile
    low: float
    high: float
    seconds_a: float  # the fastest of each; true on this machine only
    seconds_b: float


def interleaved_ratio(fn_a: Callable[[], object], fn_b: Callable[[], object], rounds: int = 20) -> TimeRatio:
    """Time `fn_a()` against `fn_b()`: after a warm-up call of each, `rounds` times both, going first by turns.

    Report the batch and the length beside it. Quartiles on both sides of 1 show no difference.
    """
    if rounds < 3:
        raise ValueError(f"rounds is {rounds}: a spread needs at least 3")
    _seconds(fn_a), _seconds(fn_b)
    a, b = [], []
    for turn in range(rounds):
        for fn, times in [(fn_a, a), (fn_b, b)] if turn % 2 else [(fn_b, b), (fn_a, a)]:
            times.append(_seconds(fn))
    low, median, high = statistics.quantiles([x / y for x, y in zip(a, b, strict=True)], n=4)
    return TimeRatio(min(a) / min(b), median, low, high, min(a), min(b))


def sync() -> None:
    """Wait for the accelerator: its work is queued, and a clock read before it is done measures nothing."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def _seconds(fn: Callable[[], object]) -> float:
    sync()
    start = time.perf_counter()
    fn()
    sync()
    return time.perf_counter() - start
