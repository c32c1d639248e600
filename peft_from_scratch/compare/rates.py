"""The search for a learning rate: the same grid of half decades for every method, and as far as it takes.

Three rates around a first guess, then one more on the side where the best still stands at the edge, until the best is
interior: a method is never judged by a rate that the grid ended at. Best is the lowest log-loss on dev, with one seed;
where a task says so, the highest accuracy. (Of two models that learned from few examples, the one that is right more
often can have the higher loss, since it is surer of itself; a search by loss would then choose what hardly learned.)
"""

from collections.abc import Iterable
from math import inf, log10

from .runs import Run

SEARCH_SEED = 0
LOWEST, HIGHEST = -14, 6  # half decades: 1e-7 to 1000
LOSS = "log_loss"


def next_rates(first: float, tried: dict[float, Run], by: str = LOSS) -> list[float]:
    """Three half decades around `first`, then one more on the side where the best still stands at the edge."""
    start = [half_decade(place(first) + step) for step in (-1, 0, 1)]
    if missing := [lr for lr in start if lr not in tried]:
        return missing
    at = place(best_rate(tried, by))
    low, high = place(min(tried)), place(max(tried))
    further = at - 1 if at == low else at + 1
    return [half_decade(further)] if at in (low, high) and LOWEST <= further <= HIGHEST else []


def best_rate(tried: dict[float, Run], by: str = LOSS) -> float:
    """The lowest log-loss on dev, or the highest of another metric; a run that failed is worse than any."""

    def rank(lr: float) -> tuple[float, ...]:
        run = tried[lr]
        if not run.done:
            return (inf,)
        return (run.metrics[LOSS],) if by == LOSS else (-run.metrics[by], run.metrics[LOSS])

    return min(sorted(tried), key=rank)


def place(lr: float) -> int:
    return round(2 * log10(lr))


def half_decade(k: int) -> float:
    """1e-4, 3.2e-4, 1e-3, ...: written and read the same everywhere."""
    return float(f"{10 ** (k / 2):.6g}")


def known_rates(runs: Iterable[Run], by: str = LOSS) -> dict[str, float]:
    """method -> the best rate of a search that was finished; to use again without searching."""
    by_method: dict[str, dict[float, Run]] = {}
    for run in runs:
        if run.split == "dev" and run.seed == SEARCH_SEED:
            by_method.setdefault(run.method, {})[run.lr] = run
    best = {method: best_rate(tried, by) for method, tried in by_method.items()}
    return {method: lr for method, lr in best.items() if by_method[method][lr].done}
