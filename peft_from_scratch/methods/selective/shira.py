"""SHiRA: train a sparse, high-rank change.  Bhardwaj et al. 2024, arXiv:2406.13175.

    y = (W + S) x + b        S: (d_out, d_in), non-zero at r (d_in + d_out) positions: as many numbers as LoRA of rank r

S = 0: starts as the base. The positions are drawn at random from `seed` (SHiRA-Rand), or by `choose(base, n)`:
`by_magnitude` is SHiRA-WM. Two adapters with other positions hardly meet, which is what makes them easy to add up.

Kind: selective. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft: SHIRA.
"""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ...layers import refuse_4bit, weight_of
from .sparse import Sparse

Choose = Callable[[nn.Module, int], Int[Tensor, " n"]]


class SHiRA(Sparse):
    """`base` with rank (d_in + d_out) single weights trained."""

    def __init__(self, base: nn.Module, rank: int = 8, choose: Choose | None = None, seed: int = 0):
        refuse_4bit(base, "SHiRA")
        W = weight_of(base)
        n = rank * sum(W.shape)
        if rank < 1 or n > W.numel():
            most = W.numel() // sum(W.shape)
            raise ValueError(f"rank={rank} would train {n} of {W.numel()} weights: use a rank from 1 to {most}")
        super().__init__(base, choose(base, n) if choose else at_random(base, n, seed))


def at_random(base: nn.Module, n: int, seed: int) -> Int[Tensor, " n"]:
    """n positions of the weight, the same on every device; in order, as peft keeps them."""
    return torch.randperm(base.weight.numel(), generator=torch.Generator().manual_seed(seed))[:n].sort().values


def by_magnitude(base: nn.Module, n: int) -> Int[Tensor, " n"]:
    """The positions of the n largest weights."""
    return base.weight.detach().abs().flatten().topk(n).indices.sort().values
