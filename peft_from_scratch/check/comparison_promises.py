"""Lesson 07's five promises: the kept measurements, what each promise says of them, and the numbers that tempt."""

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from torch import Generator

from ..compare.extract import kept_losses, kept_runs
from ..course.saved import saved
from ..measure.intervals import paired
from .tools import expect

Span = tuple[float, float, float]  # low, number, high
BOUNDS = {
    "cuts training cost": 0.5, "preserves knowledge": 0.0, "adapts with little data": 1.0,
    "switches tasks fast": 0.1, "costs nothing at inference": 1.02,
}  # fmt: skip
ROUNDED = {  # how far off a number may be that was read from what the lesson prints
    "cuts training cost": 0.006, "preserves knowledge": 0.0006, "adapts with little data": 0.06,
    "switches tasks fast": 2e-4, "costs nothing at inference": 0.006,
}  # fmt: skip
WORDS = ("yes", "no", "not decided")


@cache
def measured() -> dict[str, Span]:
    """Each promise as a number that is to be below its bound, with its interval."""
    kept, few = saved("07_promises"), kept_runs("07_low_64")
    flops = kept["costs"]["LoRA"]["flops"] / kept["costs"]["full"]["flops"]
    lost = paired(few["full"].correct, few["LoRA"].correct)
    spans = {
        "cuts training cost": (flops, flops, flops),
        "preserves knowledge": knowledge(),
        "adapts with little data": (100 * lost.low, 100 * lost.mean, 100 * lost.high),
        "switches tasks fast": of_ratio(kept["switch"]),
        "costs nothing at inference": of_ratio(kept["latency"]["LoRA"]["unmerged"]),
    }
    return spans


def of_ratio(found: Mapping[str, float]) -> Span:
    return found["low"], found["median"], found["high"]


# --- forgetting


def losses() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """method -> losses on speeches and on films, each (rates, seeds, blocks), from the untrained model on."""
    return {method: tuple(side.double().numpy() for side in sides) for method, sides in kept_losses().items()}


def front(task: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both losses from the best rate down to no training: rising loss on the task, as np.interp wants it."""
    best = int(task.argmin())
    rising = task[: best + 1].argsort()  # resampled, neighbours may change places
    return task[rising], other[rising]


def apart(found: Mapping, seeds: np.ndarray, blocks: np.ndarray) -> float:
    """Loss on films, LoRA minus full, at the lowest loss on speeches that both reach."""
    means = {m: [x[:, seeds][:, :, blocks].mean((1, 2)) for x in both] for m, both in found.items()}
    fronts = {m: front(*both) for m, both in means.items()}
    score = max(task.min() for task, _ in fronts.values())
    return float(np.subtract(*(np.interp(score, *fronts[m]) for m in ("LoRA", "full"))))


@cache
def at_best_rates() -> float:
    means = {m: [side.mean((1, 2)) for side in both] for m, both in losses().items()}
    return float(np.subtract(*(means[m][1][means[m][0].argmin()] for m in ("LoRA", "full"))))


@cache
def knowledge(draws: int = 500) -> Span:
    found, rng = losses(), np.random.default_rng(0)
    _, seeds, blocks = found["full"][0].shape
    some = [apart(found, rng.integers(seeds, size=seeds), rng.integers(blocks, size=blocks)) for _ in range(draws)]
    low, high = np.quantile(some, [0.025, 0.975])
    return float(low), apart(found, np.arange(seeds), np.arange(blocks)), float(high)


# --- the properties


@cache
def lost_with_all() -> float:
    runs = kept_runs("07_sentiment")
    return 100 * (runs["full"].accuracy - runs["LoRA"].accuracy)


def tempting(promise: str) -> dict[str, float]:
    kept = saved("07_promises")
    lora, full = kept["costs"]["LoRA"], kept["costs"]["full"]
    number = measured()[promise][1]
    return {
        "cuts training cost": {
            "that is the share of the trained numbers. A frozen weight still takes part in the forward, and in the "
            "gradient that passes through it": lora["numbers"] / full["numbers"],
            "that is the memory of a step; the promise is about its FLOPs": lora["memory"] / full["memory"],
        },
        "preserves knowledge": {
            "that is full minus LoRA": -number,
            "that is each at its own best rate; the promise is about an equal score": at_best_rates(),
        },
        "adapts with little data": {
            "that is LoRA minus full: what is asked is how much is lost": -number,
            "give it in points: times 100": number / 100,
            "that is with 2,000 reviews; the promise is about 64": lost_with_all(),
        },
        "switches tasks fast": {
            "that is the size of the files. Measure the time": lora["file"] / full["file"],
            "upside down: the time to switch over the time to load": 1 / number,
        },
        "costs nothing at inference": {
            "that is the merged model; the promise is made for the adapter as it is":
                kept["latency"]["LoRA"]["merged"]["median"],
            "that is the Pfeiffer adapter; the promise is asked of LoRA":
                kept["latency"]["Pfeiffer"]["unmerged"]["median"],
            "that is what is added; give the whole ratio": number - 1,
        },
    }[promise]  # fmt: skip


def both_dicts(answer: object) -> tuple[dict, dict]:
    numbers, verdicts = answer
    for name, given in (("numbers", numbers), ("verdicts", verdicts)):
        expect(
            isinstance(given, dict) and set(given) == set(BOUNDS), f"keep the five promises of `{name}` as they are."
        )
    return numbers, verdicts


def number_of(promise: str) -> Callable:
    def test(answer: object, rng: Generator) -> None:
        got = as_number(both_dicts(answer)[0][promise], promise)
        want = measured()[promise][1]
        named = tempting(promise)
        for advice, value in named.items():  # first, since some lie within the rounding of the right number
            expect(not math.isclose(got, value, rel_tol=1e-4), f"{promise}: {advice}.")
        if abs(got - want) <= max(ROUNDED[promise], 0.01 * abs(want)):
            return
        near = [advice for advice, value in named.items() if abs(got - value) <= max(0.03 * abs(value), 1e-4)]
        advice = near[0] if near else f"{got:.3g} is not the kept measurement; look at the cell that printed it"
        expect(False, f"{promise}: {advice}.")

    return test


def as_number(value: object, promise: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise AssertionError(f"{promise}: {value!r} is no number.") from None


def verdicts_follow(answer: object, rng: Generator) -> None:
    """Each verdict is that of the interval against the bound."""
    _, verdicts = both_dicts(answer)
    for promise in BOUNDS:
        expect(verdicts[promise] in WORDS, f'{promise}: {verdicts[promise]!r} is none of "yes", "no", "not decided".')
    for promise, bound in BOUNDS.items():
        low, number, high = measured()[promise]
        slack = 0.1 * (high - low)  # the learner's own draws move the ends a little
        want, got = below(low, high, bound), verdicts[promise]
        if got in (below(low + slack, high - slack, bound), below(low - slack, high + slack, bound)):
            continue
        span = f"from {low:.3g} to {high:.3g}" if high > low else f"{number:.3g}, exactly"
        why = {"yes": "all of it lies below", "no": "all of it lies above", "not decided": "it reaches across"}[want]
        expect(got == want, f"{promise}: the interval is {span}, and {why} {bound:g}; your verdict is {got!r}.")


def below(low: float, high: float, bound: float) -> str:
    return "yes" if high < bound else "no" if low > bound else "not decided"
