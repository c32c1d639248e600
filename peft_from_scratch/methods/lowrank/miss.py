"""MiSS: a shard of change, repeated along the inputs.  Kang and Yin 2024, arXiv:2409.15371, section 4.

    y = W x + Dᵀ (x₁ + x₂ + ... )      x₁, x₂, ...: x cut into pieces of r features (the last filled up with zeros)
    ΔW[o, i] = D[i mod r, o]           D: (r, d_out) zero, the only thing that trains

Summing is free where LoRA multiplies by A, and a single matrix is easier to fit than a product of two.
`mini`: D has so many columns, repeated until they are d_out: r * mini numbers.
`bat` (block affine, from the paper's first version, Bone): each block of W, r by r, is changed by its own weights too:
    ΔW_oi = W_oi D_o + D_o             D: (d_out / r, r, r) zero, so as many numbers; W + ΔW is then made in every step
D = 0: the layer starts as it was (`bat`: within rounding).

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (mini or d_out). Merges: yes. peft: MISS.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, is_linear, new_weight, weight_of
from ..parts import Added


class MiSS(Added):
    """`base` (Linear or Conv1D) plus one shard, repeated."""

    def __init__(self, base: nn.Module, rank: int = 64, mini: int = 0, bat: bool = False, dropout: float = 0.0):
        super().__init__(base)
        d_out, d_in = _checked(base, rank, mini, bat, dropout)
        self.rank, self.mini, self.bat = rank, mini, bat
        shape = (d_out // rank, rank, rank) if bat else (rank, mini or d_out)
        self.D = new_weight(base, *shape)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        if self.bat:  # one product with the changed weight, not two
            y = down(self.base, x, weight_of(self.base) + self.change())
            return (y if self.base.bias is None else y + self.base.bias).to(x.dtype)
        y, x = self.base(x), self.dropout(x.to(self.D.dtype))
        x = F.pad(x, (0, -x.shape[-1] % self.rank))
        change = x.unflatten(-1, (-1, self.rank)).sum(-2) @ self.D
        if self.mini:
            change = change.tile(y.shape[-1] // self.mini)
        return y + change.to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """ΔW in full."""
        W = weight_of(self.base).to(self.D.dtype)
        if self.bat:
            blocks = W.unflatten(1, (-1, self.rank)).unflatten(0, (-1, self.rank))  # (o, row, i, column)
            return (torch.einsum("oaib,obc->oaic", blocks, self.D) + self.D[:, :, None]).flatten(2).flatten(0, 1)
        d_out, d_in = W.shape
        return self.D.T.tile(d_out // self.D.shape[1], math.ceil(d_in / self.rank))[:, :d_in]

    def extra_repr(self) -> str:
        return f"rank={self.rank}" + (f", mini={self.mini}" if self.mini else "") + (", bat=True" if self.bat else "")


def _checked(base: nn.Module, rank: int, mini: int, bat: bool, dropout: float) -> tuple[int, int]:
    """The layer's d_out and d_in, if the settings fit it."""
    if not is_linear(base):
        raise ValueError(f"MiSS sums pieces of the input of a Linear or Conv1D; {type(base).__name__} is neither")
    d_out, d_in = weight_of(base).shape
    if not 1 <= rank <= d_in:
        raise ValueError(f"rank must be from 1 to d_in = {d_in}, not {rank}")
    if mini and (bat or mini < 0 or d_out % mini):
        fit = [n for n in range(1, d_out + 1) if d_out % n == 0]
        raise ValueError(f"mini={mini} must divide d_out = {d_out} ({fit} do) and does not go with bat")
    if bat and dropout:
        raise ValueError("bat changes the weight itself and has no input of its own to drop: leave dropout at 0")
    both = math.gcd(d_in, d_out)
    if bat and both % rank:
        fit = [n for n in range(1, both + 1) if both % n == 0]
        raise ValueError(f"bat needs a rank that divides d_in = {d_in} and d_out = {d_out}, not {rank}: {fit} do")
    return d_out, d_in
