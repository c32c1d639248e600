"""Does LoRA forget less? At the same loss on the task, not at the defaults."""

from collections.abc import Sequence

import numpy as np

from ..runs import Run
from .claim import Claim, Finding, Missing, lies, over_seeds, write
from .evidence import Evidence
from .experiments import CORPORA
from .made import curve


def front(tried: dict[float, Run]) -> tuple[list[float], list[float]]:
    """Loss on the task, falling, and on the other corpus, of the rates up to the best: beyond it both grow."""
    runs = [tried[lr] for lr in sorted(tried)]
    best = min(range(len(runs)), key=lambda i: runs[i].metrics["log_loss"])
    points = [(r.metrics["log_loss"], r.metrics["other_loss"]) for r in runs[: best + 1]]
    points = sorted(points, reverse=True)
    return [p[0] for p in points], [p[1] for p in points]


def at_matched_loss(runs: Sequence[Run], seed: int) -> float:
    """LoRA's loss on the other corpus minus full's, averaged over the losses on the task that both reach."""
    (task_a, other_a), (task_b, other_b) = (front(curve(runs, m, seed)) for m in ("LoRA all-linear", "full"))
    low, high = max(min(task_a), min(task_b)), min(max(task_a), max(task_b))
    if low >= high:
        raise Missing(f"with seed {seed} LoRA and full reach no loss that both have")
    places = np.linspace(low, high, 20)
    a, b = (np.interp(places, task[::-1], other[::-1]) for task, other in ((task_a, other_a), (task_b, other_b)))
    return float((a - b).mean())


def forgets_less(evidence: Evidence) -> Finding:
    """LoRA forgets less than full fine-tuning at the same score."""
    runs = evidence.made(CORPORA)
    found = over_seeds([at_matched_loss(runs, seed) for seed in CORPORA.searched])
    return Finding(
        lies(found, -100, 0), f"loss on the other corpus, LoRA minus full, at equal loss on the task: {write(found)}"
    )


FORGETTING = (Claim("medium", "Biderman 2024", forgets_less),)
