"""How far a measured score may be off: a bootstrap over the seeds *and* the test items.

Other seeds would have trained another model, other items would have made another test: both are luck, and both count.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Interval(NamedTuple):
    """A mean with the range that 95 % of resampled experiments fall in."""

    mean: float
    low: float
    high: float


def bootstrap(
    correct: Bool[Tensor, "seeds items"] | Float[Tensor, "seeds items"] | Int[Tensor, "seeds items"],
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of `correct` over seeds and items, with its interval (percentiles of `draws` resamplings of both).

    Give the difference of two methods, item by item and seed by seed, for a paired interval.
    """
    scores = correct.double().numpy()
    seeds, items = scores.shape
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for i in range(draws):  # how often each item and each seed is drawn: a product with counts is a resampled mean
        of_items = rng.multinomial(items, np.full(items, 1 / items))
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds))
        means[i] = of_seeds @ (scores @ of_items) / (seeds * items)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(scores.mean()), float(low), float(high))


def paired(a: Bool[torch.Tensor, "seeds items"], b: Bool[torch.Tensor, "seeds items"], draws: int = 2000) -> Interval:
    """a - b on the same seeds and the same items: what both find hard cancels."""
    return bootstrap(a.double() - b.double(), draws)
