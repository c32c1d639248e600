"""A rank for each pattern of sites: what Hugging Face peft calls `rank_pattern` and `alpha_pattern`.

    inject(model, lora_targets({r".*query": 4, r".*value": 16}, alphas={r".*value": 32}, dropout=0.1))

A factory sees a module and not its name, so every rank is a target of its own.

Method: Ranks by pattern. Paper: Hugging Face peft 0.21.2. Kind: reparametrized. On: Linear, Conv1D, Embedding,
Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft: rank_pattern.
"""

from collections.abc import Callable
from functools import partial

from .lora import LoRA


def lora_targets(ranks: dict[str, int], alphas: dict[str, float] | None = None, **settings) -> dict[str, Callable]:
    """Targets for `inject`: LoRA of the rank of each pattern, and of its alpha where `alphas` has the same pattern."""
    alphas = alphas or {}
    if unknown := sorted(alphas.keys() - ranks.keys()):
        raise ValueError(f"alphas names {unknown}, which ranks does not: give the same patterns a rank")
    own = {pattern: {"alpha": alphas[pattern]} if pattern in alphas else {} for pattern in ranks}
    return {pattern: partial(LoRA, rank=rank, **settings | own[pattern]) for pattern, rank in ranks.items()}
