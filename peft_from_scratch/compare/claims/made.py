"""Claims with runs of their own (experiments.py): best rates, ranks, starts, places, batches, directions."""

from collections.abc import Sequence
from math import log10
from statistics import mean

import numpy as np

from ...measure.intervals import Interval, bootstrap, equivalence, paired
from ..runs import Run
from ..statistics import MARGIN, tested
from .claim import HELD, Claim, Finding, Missing, equal, lies, over_seeds, together, write
from .evidence import Evidence, common
from .experiments import BATCHES, CONTROL, DIMENSION, DIMENSIONS, DORA, PLACES, PROMPT, RANK, RANKS
from .swept import NEAR

HALF_DECADE = 0.5


def curve(runs: Sequence[Run], method: str, seed: int) -> dict[float, Run]:
    """rate -> the run on dev."""
    return {r.lr: r for r in runs if (r.method, r.seed, r.split) == (method, seed, "dev") and r.done}


def best_log_rate(tried: dict[float, Run]) -> float:
    """log10 of the best rate: the lowest point of a parabola through the best of the grid and its neighbours."""
    rates = sorted(tried)
    losses = [tried[lr].metrics["log_loss"] for lr in rates]
    i = losses.index(min(losses))
    if not 0 < i < len(rates) - 1:
        return log10(rates[i])  # a neighbour diverged
    below, here, above = losses[i - 1 : i + 2]
    bend = below - 2 * here + above
    return log10(rates[i]) + (HALF_DECADE * (below - above) / (2 * bend) if bend > 0 else 0.0)


def best_log_rates(runs: Sequence[Run], method: str) -> list[float]:
    """One a seed. Missing where every rate of a seed failed."""
    curves = [
        curve(runs, method, seed) for seed in sorted({r.seed for r in runs if r.method == method and r.split == "dev"})
    ]
    if not curves or not all(curves):
        raise Missing(f"{method} has a seed with which no rate trains")
    return [best_log_rate(tried) for tried in curves]


def ten_times(evidence: Evidence) -> Finding:
    """LoRA's best rate is 3 to 15 times full fine-tuning's (alpha 32)."""
    runs = evidence.made(RANK)
    logs = [b - a for a, b in zip(best_log_rates(runs, "full"), best_log_rates(runs, "LoRA r16"), strict=True)]
    found = over_seeds(logs)
    told = " ".join(f"{10**value:.1f}" for value in logs)
    middle = f"{10**found.mean:.1f} [{10**found.low:.1f}, {10**found.high:.1f}]"
    return Finding(lies(found, log10(3), log10(15)), f"best rate of LoRA over full's: {middle}; by seed {told}")


def slope(runs: Sequence[Run], name: str) -> Interval:
    """How the logarithm of the best rate moves with that of the rank."""
    by_rank = np.array([best_log_rates(runs, name.format(rank)) for rank in RANKS])
    ranks = np.log10(RANKS)
    return over_seeds([float(np.polyfit(ranks, column, 1)[0]) for column in by_rank.T])


def same_rate(evidence: Evidence) -> Finding:
    """The best rate does not depend on the rank (s = alpha / r).

    Over all ranks tried the best rate moves by less than half a decade; with alpha = 2 r it may move.
    """
    found = slope(evidence.made(RANK), "LoRA r{}")
    control = slope(evidence.made(CONTROL), "LoRA r{}, alpha 2r")
    most = HALF_DECADE / log10(RANKS[-1] / RANKS[0])
    told = f"slope of log rate on log rank {write(found, digits=2)} at alpha 32, {write(control, digits=2)} at alpha 2r"
    return Finding(lies(found, -most, most), told)


def rank_saturates(evidence: Evidence) -> Finding:
    """On 1,000 examples rank 1 is as good as rank 64."""
    small, large = common(tested(evidence.made(RANK)), ("LoRA r1", "LoRA r64"), "the experiment on ranks")
    found = equivalence(large, small, NEAR)
    return Finding(equal(found), f"rank 64 minus rank 1 on 1,000 examples, margin {NEAR}: {write(found.difference)}")


def prompt_start(evidence: Evidence) -> Finding:
    """A prompt from the vocabulary is better than a random one by over a point."""
    names = ("prompt", "prompt, random start")
    found = paired(*common(tested(evidence.made(PROMPT)), names, "the experiment on prompts"))
    return Finding(lies(found, MARGIN, 1), f"vectors from the vocabulary minus random ones: {write(found)}")


def dora_at_low_rank(evidence: Evidence) -> Finding:
    """DoRA is better than LoRA at a low rank."""
    found = paired(*common(tested(evidence.made(DORA)), ("DoRA r2", "LoRA r2"), "the experiment on DoRA"))
    return Finding(lies(found, 0, 1), f"DoRA minus LoRA at rank 2: {write(found)}")


def places(evidence: Evidence) -> Finding:
    """At equal parameters, attention alone is worse than MLP or all linear layers."""
    names = ("attention r16", "MLP r10", "all-linear r6")
    attention, mlp, everywhere = common(tested(evidence.made(PLACES)), names, "the experiment on places")
    found = [paired(attention, other) for other in (mlp, everywhere)]
    told = f"loss with attention alone minus MLP {write(found[0])}, minus all-linear {write(found[1])}"
    return Finding(together([lies(f, 0, 100) for f in found]), told)


def few_directions(evidence: Evidence) -> Finding:
    """Some thousand random directions reach 90 % of full fine-tuning.

    d90: the fewest directions with 90 % of full fine-tuning's accuracy.
    """
    runs, (full,) = tested(evidence.made(DIMENSION)), evidence.items("sentiment", "full")
    aim, found = 0.9 * full.double().mean().item(), {}
    for d in DIMENSIONS:
        found[d] = bootstrap(*common(runs, (f"SAID d{d}",), "the experiment on directions"))
    told = f"90 % of full is {aim:.3f}; " + ", ".join(f"{d} directions {write(i, '')}" for d, i in found.items())
    verdicts = [lies(interval, aim, 1) for interval in found.values()]
    return Finding(HELD if HELD in verdicts else together(verdicts[-1:]), told)


def large_batches(evidence: Evidence) -> Finding:
    """LoRA falls behind full fine-tuning as the batch grows.

    LoRA's loss minus full's, each at its best rate: does it grow from the small batch to the large?
    """
    seeds = BATCHES[256].searched
    by_size = {16: evidence.made(RANK)} | {size: evidence.made(batches) for size, batches in BATCHES.items()}
    gaps = {}
    for size, runs in by_size.items():
        best = [
            [min(r.metrics["log_loss"] for r in curve(runs, m, s).values()) for s in seeds]
            for m in ("LoRA r16", "full")
        ]
        gaps[size] = [a - b for a, b in zip(*best, strict=True)]
    growth = over_seeds([large - small for large, small in zip(gaps[256], gaps[16], strict=True)])
    told = ", ".join(f"batch {size} {mean(gap):+.3f}" for size, gap in gaps.items())
    return Finding(lies(growth, 0, 100), f"log-loss on dev of LoRA minus full: {told}; growth {write(growth)}")


MADE = (
    Claim("high", "Schulman 2025", ten_times),
    Claim("high", "Schulman 2025", same_rate),
    Claim("high", "LoRA §7.2", rank_saturates),
    Claim("high", "Lester 2021", prompt_start),
    Claim("medium", "Schulman 2025", places),
    Claim("medium", "Aghajanyan 2020", few_directions),
    Claim("medium", "Schulman 2025", large_batches),
    Claim("low", "DoRA, Table 15", dora_at_low_rank),
)
