"""The search for a learning rate: the same grid of half decades for every method, and as far as it takes.

Three rates around a first guess, then one more on the side where the best still stands at the edge, until the best is
interior: a method is never judged by a rate that the grid ended at. Best is the lowest log-loss on dev, with one seed.
"""

from collections.abc import Iterable
from math import inf, log10

from .runs import Run

SEARCH_SEED = 0
LOWEST, HIGHEST = -14, 6  # half decades: 1e-7 to 1000


def next_rates(first: float, tried: dict[float, Run]) -> list[float]:
    """Three half decades around `first`, then one more on the side where the best still stands at the edge."""
    start = [half_decade(place(first) + step) for step in (-1, 0, 1)]
    if missing := [lr for lr in start if lr not in tried]:
        return missing
    at = place(best_rate(tried))
    low, high = place(min(tried)), place(max(tried))
    further = at - 1 if at == low else at + 1
    return [half_decade(further)] if at in (low, high) and LOWEST <= further <= HIGHEST else []


def best_rate(tried: dict[float, Run]) -> float:
    """The lowest log-loss on dev; a run that failed is worse than any."""
    return min(sorted(tried), key=lambda lr: tried[lr].metrics["log_loss"] if tried[lr].done else inf)


def place(lr: float) -> int:
    return round(2 * log10(lr))


def half_decade(k: int) -> float:
    """1e-4, 3.2e-4, 1e-3, ...: written and read the same everywhere."""
    return float(f"{10 ** (k / 2):.6g}")


def known_rates(runs: Iterable[Run]) -> dict[str, float]:
    """method -> the best rate of a search that was finished; to use again without searching."""
    by_method: dict[str, dict[float, Run]] = {}
    for run in runs:
        if run.split == "dev" and run.seed == SEARCH_SEED:
            by_method.setdefault(run.method, {})[run.lr] = run
    return {m: best_rate(tried) for m, tried in by_method.items() if tried[best_rate(tried)].done}
