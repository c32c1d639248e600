"""How far a measured score may be off: a bootstrap over the seeds *and* the test items.

Other seeds would have trained another model, other items would have made another test: both are luck, and both count.
Resampling the seeds alone (or a standard deviation over five of them) leaves out the luck of the test, which a
difference of two methods cancels only in part: such an interval holds the truth far less often than it says.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Scores = Bool[Tensor, "seeds items"] | Float[Tensor, "seeds items"] | Int[Tensor, "seeds items"]
Labels = Int[Tensor, " items"]


class Interval(NamedTuple):
    """A mean with the range that 95 % of resampled experiments fall in."""

    mean: float
    low: float
    high: float


def bootstrap(
    correct: Scores, draws: int = 2000, level: float = 0.95, seed: int = 0, groups: Labels | None = None
) -> Interval:
    """The mean of `correct` over seeds and items, with its interval (percentiles of `draws` resamplings of both).

    Give the difference of two methods, item by item and seed by seed, for a paired interval. `groups`: each item's
    class; then classes count alike (balanced accuracy), and each is resampled for itself.
    """
    return interval_of(*resampled(correct, draws, seed, groups), level)


def paired(a: Scores, b: Scores, draws: int = 2000, groups: Labels | None = None) -> Interval:
    """a - b on the same seeds and the same items: what both find hard cancels."""
    return bootstrap(a.double() - b.double(), draws, groups=groups)


def resampled(scores: Scores, draws: int, seed: int = 0, groups: Labels | None = None) -> tuple[float, np.ndarray]:
    """The mean, and that of each of `draws` experiments with seeds and items drawn anew from those there are."""
    rng, parts = np.random.default_rng(seed), parts_of(scores, groups)
    seeds, means = len(scores), np.zeros(draws)
    for i in range(draws):  # how often each item and each seed is drawn: a product with counts is a resampled mean
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds)) / seeds
        for part in parts:
            items = part.shape[1]
            of_items = rng.multinomial(items, np.full(items, 1 / items)) / items
            means[i] += of_seeds @ (part @ of_items) / len(parts)
    return float(np.mean([part.mean() for part in parts])), means


def parts_of(scores: Scores, groups: Labels | None) -> list[np.ndarray]:
    """The scores of each group, or of all items."""
    values = scores.double().numpy()
    return [values] if groups is None else [values[:, (groups == g).numpy()] for g in groups.unique()]


def interval_of(mean: float, means: np.ndarray, level: float = 0.95) -> Interval:
    """The middle `level` of the resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def p_of(means: np.ndarray) -> float:
    """How surprising such differences would be if there were none: twice the share of resamplings beyond 0, at least
    2 / (draws + 1), since with so many draws nothing rarer can be told."""
    beyond = 1 + min((means <= 0).sum(), (means >= 0).sum())
    return float(min(1.0, 2 * beyond / (len(means) + 1)))


class Verdict(NamedTuple):
    """a - b against a margin that was set beforehand."""

    word: str
    difference: Interval
    margin: float


def equivalence(a: Scores, b: Scores, margin: float = 0.01, draws: int = 2000, groups: Labels | None = None) -> Verdict:
    """Is a as good as b, to within `margin`? By the 95 % interval of a - b:

    equivalent       all of it lies within ±margin
    not equivalent   all of it lies beyond the margin, on one side
    not decided      it reaches across: more items or seeds would be needed, or a wider margin, set before looking
    """
    if margin <= 0:
        raise ValueError(f"the margin must be above 0, not {margin}: no two methods are equal exactly")
    found = paired(a, b, draws, groups)
    if -margin < found.low and found.high < margin:
        return Verdict("equivalent", found, margin)
    beyond = found.low > margin or found.high < -margin
    return Verdict("not equivalent" if beyond else "not decided", found, margin)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: of so many comparisons, some are small by luck. Adjusted values, to hold against 0.05.

    The smallest is multiplied by their number n, the next by n - 1, ...; none is smaller than the one before it.
    Below 0.05 together, they are wrong about any row in at most one of twenty tables.
    """
    adjusted, before, n = {}, 0.0, len(p_values)
    for i, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        before = max(before, min(1.0, (n - i) * p_values[name]))
        adjusted[name] = before
    return {name: adjusted[name] for name in p_values}


def as_scores(items: list[str] | list[list[float]]) -> Scores:
    """The `items` of stored runs, one a seed, as a tensor: "0110..." as booleans, losses as they are."""
    if len({len(one) for one in items}) != 1:
        raise ValueError(f"the runs have different numbers of items ({sorted({len(one) for one in items})}), or none")
    return torch.tensor([[c == "1" for c in one] if isinstance(one, str) else one for one in items])
