"""Claims about what happens inside a training run: the rank of what was learned, how soon, and how much fits in."""

from collections.abc import Callable
from functools import partial
from math import log, log2
from statistics import mean, median

import torch
from torch import Tensor, nn

from ...adapt import inject, trained
from ...methods.lowrank.lora import LoRA
from ...models import load
from ...train import fit
from ...training.history import History
from ..bench import Bench
from ..contestants import Contestant
from ..rates import known_rates
from .claim import Claim, Finding, Missing, decided, lies, over_seeds, write
from .evidence import Evidence
from .experiments import RANK, SEEDS, SMALL

WINDOW, THRESHOLD = 20, 0.6  # steps over which the loss is averaged, and where it counts as learned; set beforehand
PLAIN, WIDE, USUAL = (RANK.contestants[i] for i in (0, 4, 3))  # full, rank 64, rank 16
QUERY_VALUE = r".*\.(query|value)"


def train(bench: Bench, contestant: Contestant, seed: int, lr: float) -> tuple[nn.Module, History]:
    """As the laboratory does, but the model and its history are kept."""
    torch.manual_seed(seed)
    model = contestant.adapt(bench.model(seed))
    settings = dict(lr=lr, epochs=bench.task.epochs, seed=seed, device=bench.task.device, amp=bench.task.amp)
    return model, fit(model, bench.order(seed), progress=False, **settings)


def rates(evidence: Evidence, *contestants: Contestant) -> list[float]:
    found = known_rates(evidence.made(RANK))
    if missing := [c.name for c in contestants if c.name not in found]:
        raise Missing(f"no rate trains {missing[0]}")
    return [found[c.name] for c in contestants]


def energy_rank(change: Tensor, share: float = 0.9) -> int:
    """How many singular values hold that share of the squared sum."""
    energy = torch.linalg.svdvals(change.double()).square().cumsum(0)
    return int((energy < share * energy[-1]).sum()) + 1


def changes(plain: nn.Module, model: nn.Module) -> list[Tensor]:
    """What was learned at query and value, in full fine-tuning or by LoRA."""
    before, after = dict(plain.named_modules()), dict(model.named_modules())
    names = [n for n, m in before.items() if isinstance(m, nn.Linear) and n.endswith(("query", "value"))]
    learned = [(before[n], after[n]) for n in names]
    return [(new.change() if isinstance(new, LoRA) else new.weight - old.weight).detach() for old, new in learned]


def higher_rank(evidence: Evidence) -> Finding:
    """What full fine-tuning learns has a higher rank than what LoRA learns."""
    chosen = rates(evidence, PLAIN, WIDE)

    def of(seed: int) -> dict[str, float]:
        bench = SMALL.on(evidence.machine).bench()
        plain, found = bench.model(seed), {}
        for contestant, lr in zip((PLAIN, WIDE), chosen, strict=True):
            model, _ = train(bench, contestant, seed, lr)
            found[contestant.name] = median(energy_rank(change) for change in changes(plain, model))
        return found

    found = [evidence.measured(SMALL, "rank of the change", [seed], partial(of, seed)) for seed in SEEDS[:3]]
    full, lora = ([one[c.name] for one in found] for c in (PLAIN, WIDE))
    told = f"median rank that holds 90 % of the energy: full {mean(full):.0f}, LoRA of rank 64 {mean(lora):.0f}"
    return Finding(decided(all(a > b for a, b in zip(full, lora, strict=True))), told)


def steps_to(losses: list[float]) -> int:
    """The first step at which the mean of the last 20 losses is below the threshold; else one more than all."""
    means = torch.tensor(losses).unfold(0, min(WINDOW, len(losses)), 1).mean(1)
    below = (means < THRESHOLD).nonzero()
    return int(below[0]) + min(WINDOW, len(losses)) if len(below) else len(losses) + 1


def slower(evidence: Evidence) -> Finding:
    """LoRA needs more steps than full fine-tuning on little data."""
    chosen = rates(evidence, PLAIN, USUAL)

    def of(seed: int) -> dict[str, int]:
        bench = SMALL.on(evidence.machine).bench()
        pairs = zip((PLAIN, USUAL), chosen, strict=True)
        return {c.name: steps_to(train(bench, c, seed, lr)[1].loss) for c, lr in pairs}

    found = [evidence.measured(SMALL, "steps to learn", [seed], partial(of, seed)) for seed in SEEDS]
    full, lora = ([one[c.name] for one in found] for c in (PLAIN, USUAL))
    ratio = over_seeds([log2(b / a) for a, b in zip(full, lora, strict=True)])
    told = f"steps to a training loss below {THRESHOLD}: full {full}, LoRA {lora}; log2 of the ratio {write(ratio)}"
    return Finding(lies(ratio, 0, 100), told)


LABELS, LENGTH, STEPS = 512, 12, 400
MEMORY_RANKS, MEMORY_RATES = (1, 4), (1e-2, 3e-2)


def memorised(rank: int, seed: int) -> dict[str, float]:
    """Bits about random labels that LoRA holds on a frozen random BERT: at the rate that holds the most."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, 90, (LABELS, LENGTH), generator=generator)
    labels = torch.randint(0, 2, (LABELS,), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    bits, numbers = [], 0
    for lr in MEMORY_RATES:
        torch.manual_seed(seed)
        model = inject(load("tiny-bert", "classify", seed=0)[0], {QUERY_VALUE: partial(LoRA, rank=rank, alpha=8)})
        loss = mean(fit(model, [batch] * STEPS, lr=lr, seed=seed, progress=False).loss[-10:])
        bits.append(LABELS * max(0.0, 1 - loss / log(2)))
        numbers = sum(p.numel() for p in trained(model).values())
    return {"bits": max(bits), "numbers": numbers}


def capacity(evidence: Evidence) -> Finding:
    """How many random labels LoRA holds grows with its trained numbers."""

    def of(rank: int, seed: int) -> Callable[[], dict]:
        return lambda: memorised(rank, seed)

    found = {
        rank: [evidence.measured(SMALL, "random labels", [rank, seed], of(rank, seed)) for seed in SEEDS[:3]]
        for rank in MEMORY_RANKS
    }
    bits = {rank: [one["bits"] for one in many] for rank, many in found.items()}
    grows = all(a < b for a, b in zip(*bits.values(), strict=True))
    told = ", ".join(f"{found[r][0]['numbers']:,} numbers {mean(b):.0f}" for r, b in bits.items())
    return Finding(decided(grows and mean(bits[1]) < 0.9 * LABELS), f"bits held of {LABELS} random labels: {told}")


TRAINED = (
    Claim("high", "Biderman 2024", higher_rank),
    Claim("high", "Schulman 2025", capacity),
    Claim("medium", "Scale AI 2304.14999", slower),
)
