"""What lesson 07 asks of a bootstrap: answers whose luck is known, and how wide an interval each fault gives."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from ..measure.intervals import paired
from .tools import draw, expect

DRAWS = 1000
Correct = Bool[Tensor, "seeds items"]


def world(
    rng: Generator, seeds: int, items: int, of_seed: float, of_item: float, noise: float
) -> tuple[Correct, Correct]:
    """Two methods that find the same items hard. `of_seed`: how much a training run differs from the next; `of_item`:
    how much the methods differ on an item, whatever the seed; `noise`: what is left."""
    hard = draw(rng, items) + 0.8

    def method(better: float) -> Correct:
        own = of_seed * draw(rng, seeds, 1) + of_item * draw(rng, items)
        return hard + own + better + noise * draw(rng, seeds, items) > 0

    return method(0.15), method(0.0)


def luck_of_items(rng: Generator) -> tuple[Correct, Correct]:
    return world(rng, 20, 240, of_seed=0.0, of_item=0.3, noise=0.12)


def luck_of_seeds(rng: Generator) -> tuple[Correct, Correct]:
    return world(rng, 12, 900, of_seed=0.35, of_item=0.15, noise=0.3)


# how a fault resamples: (a, b, rng) -> one resampled mean


def seeds_only(a, b, rng):
    return (a - b)[rng.integers(len(a), size=len(a))].mean()


def items_only(a, b, rng):
    return (a - b)[:, rng.integers(a.shape[1], size=a.shape[1])].mean()


def one_seed(a, b, rng):
    return (a - b)[rng.integers(len(a)), rng.integers(a.shape[1], size=a.shape[1])].mean()


def cells(a, b, rng):
    difference = (a - b).ravel()
    return difference[rng.integers(difference.size, size=difference.size)].mean()


def unpaired(a, b, rng):
    means = []
    for scores in (a, b):
        some = scores[rng.integers(len(scores), size=len(scores))]
        means.append(some[:, rng.integers(scores.shape[1], size=scores.shape[1])].mean())
    return means[0] - means[1]


FAULTS: dict[Callable, str] = {
    seeds_only: "this is the width of an interval over the seeds alone: the items were drawn too, and by luck",
    items_only: "this is the width of an interval over the items alone: another seed would have trained another model",
    one_seed: "this draws one seed at a time: draw so many seeds as there are, with replacement",
    cells: "it draws each run of each item by itself, as if a hard item were hard once: draw items for all seeds alike",
    unpaired: "a and b are resampled apart: with the same items and seeds for both, what both find hard cancels",
}


LEVELS = {"one standard error each side": 0.51, "90 %": 0.84, "99 %": 1.31}  # widths, where 95 % is 1


def width_of(fault: Callable, a: Correct, b: Correct) -> float:
    rng, a, b = np.random.default_rng(0), a.double().numpy(), b.double().numpy()
    low, high = np.quantile([fault(a, b, rng) for _ in range(DRAWS)], [0.025, 0.975])
    return float(high - low)


def three_numbers(bootstrap: Callable, a: Correct, b: Correct) -> tuple[float, float, float]:
    """mean, low, high as floats; with words where it is anything else."""
    got = bootstrap(a.clone(), b.clone(), DRAWS)
    expect(isinstance(got, (tuple, list)) and len(got) == 3, "return three numbers: mean, low, high.")
    try:
        mean, low, high = (float(each) for each in got)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError("mean, low and high are one number each: take the mean over seeds and items.") from None
    expect(low - 1e-9 <= mean <= high + 1e-9, "the mean must lie between low and high, in this order: mean, low, high.")
    return mean, low, high


def right_width(bootstrap: Callable, here: tuple, elsewhere: tuple, suspects: tuple[Callable, ...]) -> None:
    """The answer's interval is as wide as the package's, to what so many draws can tell. A fault is named where its
    width is the answer's `here` and also `elsewhere`, where the luck is of another kind: one width has many causes."""
    ratio, width = ratio_of(bootstrap, *here)
    if 0.88 < ratio < 1.14:
        return
    expect(ratio > 1e-6, "low and high are equal. Draw with replacement: the same seed or item may come twice.")
    other, wide = ratio_of(bootstrap, *elsewhere)
    known = {FAULTS[fault]: (width_of(fault, *here) / width, width_of(fault, *elsewhere) / wide) for fault in suspects}
    level = "this is {}: 95 % reach from the 0.025 to the 0.975 quantile"
    known |= {level.format(words): (share, share) for words, share in LEVELS.items()}

    def off(advice: str) -> float:
        return max(abs(got / share - 1) for got, share in zip((ratio, other), known[advice], strict=True))

    nearest = min(known, key=off)
    otherwise = (f"the interval is {ratio:.2f} times as wide as it should be: draw seeds and items, with replacement, "
                 "as many as there are")  # fmt: skip
    expect(False, f"{nearest if off(nearest) < 0.12 else otherwise}.")


def ratio_of(bootstrap: Callable, a: Correct, b: Correct) -> tuple[float, float]:
    """How many times as wide the answer's interval is as the package's, and that one's width."""
    _, low, high = three_numbers(bootstrap, a, b)
    want = paired(a, b, DRAWS)
    return (high - low) / (want.high - want.low), want.high - want.low


def reaches_the_last(bootstrap: Callable, what: str) -> None:
    """A world in which a is better in the last seed alone, or in the last item alone."""
    a = torch.zeros(6, 12, dtype=torch.bool)
    (a[-1] if what == "seed" else a[:, -1]).fill_(True)
    _, _, high = bootstrap(a, torch.zeros_like(a), 200)
    expect(float(high) > 0, f"the last {what} is never drawn: torch.randint(n, ...) gives 0 to n - 1 by itself.")


# --- the three properties


def gives_the_difference(bootstrap: Callable, rng: Generator) -> None:
    for a, b in (luck_of_items(rng), luck_of_seeds(rng)[::-1]):
        mean, low, high = three_numbers(bootstrap, a, b)
        want = (a.double() - b.double()).mean().item()
        expect(abs(mean + want) > 0.02 * abs(want), "this is b - a: a better first method should give a plus.")
        expect(abs(mean - a.double().mean()) > 1e-6, "this is the accuracy of the first method, not the difference.")
        slack = 0.25 * (high - low)
        expect(abs(mean - want) <= max(slack, 1e-6), f"the mean is {mean:.4f}; a - b is {want:.4f} on average.")


def draws_items(bootstrap: Callable, rng: Generator) -> None:
    right_width(bootstrap, luck_of_items(rng), luck_of_seeds(rng), suspects=tuple(FAULTS))
    reaches_the_last(bootstrap, "item")


def draws_seeds(bootstrap: Callable, rng: Generator) -> None:
    known = (seeds_only, items_only, one_seed, unpaired)
    right_width(bootstrap, luck_of_seeds(rng), luck_of_items(rng), suspects=known)
    reaches_the_last(bootstrap, "seed")
