"""What a table may say: every method against full fine-tuning, and the one row that was chosen beforehand.

All comparisons are on the seeds that both have, item by item. With twenty rows one is better or worse by luck: Holm's
adjusted p-values are for all rows together. The headline is a single comparison that needs no such correction: its
method is chosen on dev, its margin was set before, and test is looked at once.
"""

from collections.abc import Iterable, Mapping
from statistics import mean
from typing import NamedTuple

from ..measure.intervals import Interval, Labels, Verdict, as_scores, equivalence, holm, interval_of, p_of, resampled
from .runs import Run

REFERENCE = "full"
MARGIN = 0.01  # one point of accuracy: what 5,000 test items can resolve, set before any run
MOST = 0.02  # of the model's numbers, for a method to count as parameter-efficient


class Difference(NamedTuple):
    """A method minus full fine-tuning, on `seeds` seeds. `adjusted`: its p-value among all rows of the table (Holm)."""

    interval: Interval
    p: float
    adjusted: float
    seeds: int


class Headline(NamedTuple):
    """The method that was best on dev among those that train under 2 % of the numbers, and its verdict on test."""

    method: str
    share: float
    candidates: int
    verdict: Verdict
    seeds: int


def tested(runs: Iterable[Run]) -> dict[str, dict[int, Run]]:
    """method -> seed -> its finished test run. A seed that was run at two rates counts with the later one."""
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.split == "test" and run.done and run.steps:
            found.setdefault(run.method, {})[run.seed] = run
    return found


def differences(runs: Iterable[Run], labels: Labels | None = None, draws: int = 2000) -> dict[str, Difference]:
    """Every method minus full; accuracy up is good, but where items are losses (language), down is.

    `labels`: the test items' classes, for balanced accuracy. ValueError where full fine-tuning has no run.
    """
    table = tested(runs)
    if REFERENCE not in table:
        raise ValueError(f"there is no finished test run of {REFERENCE!r} to compare with: run it first")
    found = {}
    for method in table.keys() - {REFERENCE}:
        if pair := both(table, method):
            a, b = pair
            mean_of_all, means = resampled(a.double() - b.double(), draws, groups=labels)
            found[method] = interval_of(mean_of_all, means), p_of(means), len(a)
    adjusted = holm({method: p for method, (_, p, _) in found.items()})
    return {m: Difference(found[m][0], found[m][1], adjusted[m], found[m][2]) for m in table if m in found}


def both(table: Mapping[str, Mapping[int, Run]], method: str) -> tuple | None:
    """The items of a method and of full on the seeds that both have; None without such a seed."""
    seeds = sorted(table[method].keys() & table[REFERENCE].keys())
    return tuple(as_scores([table[m][s].items for s in seeds]) for m in (method, REFERENCE)) if seeds else None


def best_on_dev(runs: Iterable[Run], costs: Mapping[str, Mapping], most: float = MOST) -> tuple[str, float, int]:
    """The method with the lowest dev log-loss, as a mean over its final runs, that trains at most the share `most`;
    its share; and of how many it was chosen. `costs`: the cost lines by method. ValueError where there is none."""
    share = {m: c["numbers"] / c["total"] for m, c in costs.items() if "numbers" in c}
    loss = {m: [run.metrics["dev_log_loss"] for run in by_seed.values()] for m, by_seed in tested(runs).items()}
    small = [m for m in loss if m != REFERENCE and share.get(m, 1.0) <= most]
    if not small:
        raise ValueError(f"no finished method trains at most {most:.0%} of the numbers: run some, and their costs")
    best = min(small, key=lambda m: mean(loss[m]))
    return best, share[best], len(small)


def headline(
    runs: Iterable[Run], costs: Mapping[str, Mapping], margin: float = MARGIN, labels: Labels | None = None
) -> Headline:
    """Is the best small method as good as full fine-tuning, to within the margin?"""
    runs = list(runs)
    method, share, candidates = best_on_dev(runs, costs)
    pair = both(tested(runs), method)
    if pair is None:
        raise ValueError(f"{method!r} and {REFERENCE!r} have no seed in common: run both on the same seeds")
    return Headline(method, share, candidates, equivalence(*pair, margin, groups=labels), len(pair[0]))


def multiplicity(found: Mapping[str, Difference], level: float = 0.05) -> str:
    """The sentence that belongs under a table of many comparisons."""
    raw, kept = (sum(p < level for p in ps) for ps in zip(*((d.p, d.adjusted) for d in found.values()), strict=True))
    chance = level * len(found)
    return (
        f"{len(found)} methods are compared with {REFERENCE}: about {chance:.2g} would differ at p < {level:g} by luck "
        f"alone. {raw} do; {kept} still do after Holm's correction for {len(found)} comparisons."
    )
