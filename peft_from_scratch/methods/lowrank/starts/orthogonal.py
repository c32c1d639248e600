"""LoRA, orthogonal start: A and B both non-zero, B A = 0.  datta0 2024, "Rethinking LoRA initialisation" (blog).

    A = (Z₁ Q_odd)ᵀ / 10,   B = Z₂ Q_even / 10        Z₁: (d_in, r/2), Z₂: (d_out, r/2) normal;  Q: (r, r) orthogonal

The rows of Q_even are orthogonal to those of Q_odd, so B A = Z₂ Q_even Q_oddᵀ Z₁ᵀ / 100 = 0: the layer starts as it
was, up to rounding, and both matrices get a gradient from the first step (with B = 0, A waits for B). The rank is even.
https://datta0.github.io/posts/rethink-lora-init/   Trains and merges as LoRA.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft:
init_lora_weights='orthogonal'.
"""

import torch
from torch import nn

from ....layers import new_weight, weight_of
from ..lora import Start


def orthogonal(base: nn.Module, rank: int, scale: float) -> Start:
    """Random A and B with B A = 0. ValueError for an odd rank: half of Q's rows go to each."""
    if rank % 2:
        raise ValueError(f"the orthogonal start needs an even rank, not {rank}: use {rank - 1 or 2} or {rank + 1}")
    d_out, d_in = weight_of(base).shape
    like = new_weight(base)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=like.dtype, device=like.device)

    Q, _ = torch.linalg.qr(normal(rank, rank))
    A = (normal(d_in, rank // 2) @ Q[0::2]).T / 10
    B = normal(rank // 2, d_out).T @ Q[1::2] / 10
    return Start(A.contiguous(), B)
