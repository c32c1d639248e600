"""GraLoRA: a grid of k by k small LoRAs over one matrix.  Jung et al. 2025, arXiv:2505.20355.

    y_i = (W x)_i + s Σ_j B_ij A_ij x_j      i, j = 1 .. k;  x_j: a k-th of x, A_ij: (r/k, d_in/k), B_ij: (d_out/k, r/k)
    s = alpha / r; with `hybrid` h > 0 an ordinary LoRA of rank h is added, and s = alpha / (r + h)

A single outlier feature then disturbs one column of the grid only, and the change has rank up to k r for LoRA's price.
A is random and B zero, so the layer starts as it was.

Kind: reparametrized. On: Linear, Conv1D. Trains: (rank + hybrid) * (d_in + d_out). Merges: yes. peft: GRALORA.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, is_linear, new_weight, up, weight_of
from ..parts import Added


class GraLoRA(Added):
    """`base` (Linear or Conv1D) plus `blocks` x `blocks` low-rank pieces of rank `rank / blocks`."""

    def __init__(
        self, base: nn.Module, rank: int = 32, alpha: float = 64, blocks: int = 2, hybrid: int = 0, dropout: float = 0.0
    ):
        super().__init__(base)
        d_out, d_in = _checked(base, rank, alpha, blocks, hybrid)
        self.rank, self.alpha, self.blocks, self.hybrid = rank, alpha, blocks, hybrid
        self.scale = alpha / (rank + hybrid)
        self.A = _uniform(new_weight(base, blocks, d_in // blocks, rank), d_in // blocks)  # A[j]: A_1j ... A_kj beside
        self.B = new_weight(base, blocks, rank, d_out // blocks)  # B[i]: B_i1 ... B_ik below one another
        self.hybrid_A = _uniform(new_weight(base, hybrid, d_in), d_in) if hybrid else None
        self.hybrid_B = new_weight(base, d_out, hybrid) if hybrid else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        y, x = self.base(x), self.dropout(x.to(self.A.dtype))
        Ax = torch.einsum("...jn,jnr->...jr", x.unflatten(-1, (self.blocks, -1)), self.A)
        Ax = Ax.unflatten(-1, (self.blocks, -1)).transpose(-3, -2).flatten(-2)  # what is for i, from every j
        change = torch.einsum("...ir,irm->...im", Ax, self.B).flatten(-2)
        if self.hybrid:
            change = change + up(self.base, down(self.base, x, self.hybrid_A), self.hybrid_B)
        return y + (self.scale * change).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """s times the grid of B_ij A_ij (and the ordinary LoRA)."""
        A = self.A.unflatten(-1, (self.blocks, -1))  # (j, n, i, r/k)
        B = self.B.unflatten(1, (self.blocks, -1))  # (i, j, r/k, m)
        grid = torch.einsum("ijrm,jnir->imjn", B, A).flatten(2).flatten(0, 1)
        return self.scale * (grid + self.hybrid_B @ self.hybrid_A if self.hybrid else grid)

    def extra_repr(self) -> str:
        text = f"rank={self.rank}, alpha={self.alpha:g}, blocks={self.blocks}"
        return text + (f", hybrid={self.hybrid}" if self.hybrid else "")


def _uniform(A: nn.Parameter, fan_in: int) -> nn.Parameter:
    """LoRA's start for A, with the inputs that A really sees."""
    return nn.init.uniform_(A, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def _checked(base: nn.Module, rank: int, alpha: float, blocks: int, hybrid: int) -> tuple[int, int]:
    """The layer's d_out and d_in, if the settings fit it."""
    if not is_linear(base):
        raise ValueError(
            f"GraLoRA cuts the features of a Linear or Conv1D into blocks; {type(base).__name__} is neither"
        )
    if rank < 1 or alpha <= 0 or hybrid < 0:
        raise ValueError(f"rank must be at least 1, alpha above 0, hybrid 0 or more, not {rank}, {alpha}, {hybrid}")
    d_out, d_in = weight_of(base).shape
    common = math.gcd(rank, d_out, d_in)
    if blocks < 1 or common % blocks:
        fit = [k for k in range(1, common + 1) if common % k == 0]
        raise ValueError(f"blocks={blocks} must divide rank {rank}, d_in {d_in} and d_out {d_out}: {fit} do")
    return d_out, d_in
