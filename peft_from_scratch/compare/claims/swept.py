"""Claims that the sweep's own lines decide: every method at its best rate, paired seeds, test items.

Margins were set before any run: one point of accuracy for "as good as full", two points for "no different from LoRA".
"""

from statistics import mean

import torch

from ...measure.intervals import Interval, equivalence, paired
from ..rates import best_rate, place
from ..runs import Run
from ..statistics import MARGIN, REFERENCE, differences
from ..tasks import TASKS
from .claim import Claim, Finding, Missing, equal, lies, together, write
from .evidence import Evidence

NEAR = 0.02
VARIANTS = ("DoRA", "PiSSA", "rsLoRA", "LoRA+", "AdaLoRA", "LoRA-XS")
CLASSIFYING = ("sentiment", "spam", "low-1000", "low-4000")
SPEED_UP = 0.754  # LoRA's paper: 43.1 tokens a second instead of 32.5


def as_good_as_full(evidence: Evidence) -> Finding:
    """LoRA is as good as full fine-tuning on small data, to within a point."""
    found = equivalence(*evidence.items("sentiment", "LoRA", REFERENCE), MARGIN)
    wide = equivalence(*evidence.items("sentiment", "LoRA all-linear", REFERENCE), MARGIN)
    told = f"on sentiment minus full: LoRA {write(found.difference)} ({found.word}), "
    return Finding(together([equal(found), equal(wide)]), told + f"all-linear {write(wide.difference)} ({wide.word})")


def variants(evidence: Evidence) -> Finding:
    """Variants of LoRA are as good as LoRA once each has its rate."""
    found = {}
    for name in VARIANTS:
        found[name] = equivalence(*evidence.items("sentiment", name, "LoRA"), NEAR)
    told = ", ".join(f"{name} {write(verdict.difference)}" for name, verdict in found.items())
    return Finding(together([equal(v) for v in found.values()]), f"minus LoRA, margin {NEAR}: {told}")


def prompt_is_weak(evidence: Evidence) -> Finding:
    """Prompt tuning stays behind full fine-tuning on a small model."""
    found = paired(*evidence.items("sentiment", "prompt", REFERENCE))
    return Finding(lies(found, -1, -MARGIN), f"prompt minus full on sentiment: {write(found)}")


def prompt_rate(evidence: Evidence) -> Finding:
    """Prompt tuning loses two points for each half decade below its best rate.

    Below its best rate, on dev: how much is lost, beside what LoRA loses.
    """
    lost = {}
    for method in ("prompt", "LoRA"):
        tried = {lr: run for lr, run in evidence.sweep("sentiment").searched().get(method, {}).items() if run.done}
        lower = [lr for lr in tried if place(lr) < place(best_rate(tried))] if tried else []
        if not lower:
            raise Missing(f"{method} has no search on dev below its best rate: make its sweep")
        best, low = tried[best_rate(tried)], tried[min(lower)]
        steps = place(best.lr) - place(low.lr)
        lost[method] = difference_of(best, low, steps)
    told = ", ".join(f"{method} {write(value)}" for method, value in lost.items())
    return Finding(lies(lost["prompt"], NEAR, 1), f"accuracy on dev lost by each half decade below the best: {told}")


def difference_of(best: Run, low: Run, steps: int) -> Interval:
    """Two accuracies on dev, whose items are not kept: an interval as wide as for two separate sets of items."""
    half = 1.96 * (2 * 0.25 / TASKS[best.task].dev) ** 0.5 / steps
    found = (best.metrics["accuracy"] - low.metrics["accuracy"]) / steps
    return Interval(found, found - half, found + half)


def bitfit_is_near(evidence: Evidence) -> Finding:
    """BitFit is near LoRA on classification."""
    found = equivalence(*evidence.items("sentiment", "BitFit", "LoRA"), NEAR)
    return Finding(equal(found), f"BitFit minus LoRA on sentiment, margin {NEAR}: {write(found.difference)}")


def far_on_generation(evidence: Evidence) -> Finding:
    """Training vectors only (BitFit; here LN-tuning) is far from LoRA on generation.

    SmolLM2 has no biases, so LN-tuning stands in: does it stay behind half of what LoRA gains?
    """
    small, lora = evidence.items("style", "LN-tuning", "LoRA")
    still = [run for run in evidence.sweep("style").runs if run.method == "zero-shot"]
    if not still:
        raise Missing("the sweep of style has no zero-shot row")
    before = torch.tensor(still[0].items).expand_as(lora)
    behind = paired(small, (before + lora) / 2)
    gains = [(before - after).mean().item() for after in (small, lora)]
    told = f"loss gained: LN-tuning {gains[0]:.3f}, LoRA {gains[1]:.3f}; behind half of LoRA's by {write(behind)}"
    return Finding(lies(behind, 0, 100), told)


def better_than_full(evidence: Evidence) -> Finding:
    """LoRA beats full fine-tuning on average over classification tasks.

    The mean difference over all classification tables that are there; their intervals add up as squares.
    """
    found: dict[str, Interval] = {}
    for task in CLASSIFYING:
        if table := next((t for t in evidence.tables if t.task == task), None):
            if REFERENCE in {run.method for run in table.runs if run.split == "test" and run.done}:
                against = differences(table.runs, table.groups)
                if "LoRA" in against:
                    found[task] = against["LoRA"].interval
    if len(found) < 2:
        raise Missing(
            f"LoRA and full are compared on {len(found)} classification tasks, 2 are needed: compare --task spam"
        )
    middle = mean(i.mean for i in found.values())
    half = sum(((i.high - i.low) / 2) ** 2 for i in found.values()) ** 0.5 / len(found)
    whole = Interval(middle, middle - half, middle + half)
    told = ", ".join(f"{task} {interval.mean:+.3f}" for task, interval in found.items())
    return Finding(lies(whole, 0, 1), f"LoRA minus full: {told}; mean {write(whole)}")


def a_quarter_faster(evidence: Evidence) -> Finding:
    """LoRA saves a quarter of the training time."""
    table = evidence.sweep("sentiment")
    if "LoRA" not in table.times:
        raise Missing("a step of LoRA has not been timed beside full fine-tuning's on sentiment: make its sweep")
    found = table.times["LoRA"]
    costs = [table.costs.get(m, {}).get("flops") for m in ("LoRA", REFERENCE)]
    counted = f"; FLOPs {costs[0] / costs[1]:.3f}" if all(costs) else ""
    return Finding(lies(found, 0, SPEED_UP), f"time of a step of LoRA over full's: {write(found, '')}{counted}")


SWEPT = (
    Claim("high", "Schulman 2025", as_good_as_full),
    Claim("high", "Lee et al. 2602.04998", variants),
    Claim("high", "Lester 2021", prompt_is_weak),
    Claim("high", "Lester 2021", prompt_rate),
    Claim("high", "He et al. 2110.04366", bitfit_is_near),
    Claim("high", "He et al. 2110.04366", far_on_generation),
    Claim("do not expect", "LoRA, Table 2", better_than_full),
    Claim("do not expect", "LoRA §4.2", a_quarter_faster),
)
