"""BOFT: a dense rotation from a few sparse ones, as in the fast Fourier transform.  Liu et al. 2023, arXiv:2311.06243.

    y = s ⊙ (W Rᵀ x) + b        R = F_(m-1) ... F_1 F_0,   F_i: rotations of b features each, as OFT's R

The blocks of F_i take b/2 features from each of two places that are 2^i b/2 apart (a butterfly), so that m factors mix
2^(m-1) b features with each other. Q = 0 and s = 1: starts as the base. Merges into s ⊙ W Rᵀ.
`dropout` leaves so many blocks of one random factor out.

Kind: reparametrized. On: Linear, Conv1D, Conv2d. Trains: factors * d_in * (block_size - 1) / 2 + d_out. Merges: yes.
peft: BOFT.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight, weight_of, with_weight
from ..maths import cayley, skew
from .turned import Turned, check_blocks


class BOFT(Turned):
    """`base` with its input turned by `factors` butterflies, and its output scaled (but for the bias)."""

    def __init__(self, base: nn.Module, block_size: int = 4, factors: int = 1, dropout: float = 0.0):
        super().__init__(base)
        if isinstance(base, nn.Embedding):
            raise ValueError("the input of an embedding is a token's number, which BOFT cannot turn: use OFT there")
        d_out, d_in = weight_of(base).shape
        if factors < 1 or not 0 <= dropout < 1 or (factors > 1 and block_size % 2):
            raise ValueError(
                f"factors must be at least 1, dropout in [0, 1), and with several factors block_size even, not "
                f"factors={factors}, dropout={dropout}, block_size={block_size}"
            )
        check_blocks(d_in, block_size, times=2 ** (factors - 1))
        self.block_size, self.factors, self.dropout = block_size, factors, dropout
        # peft trains all b² numbers of a block and uses the half of D - Dᵀ: twice as many for the same rotations
        self.Q = new_weight(base, factors * d_in // block_size, block_size * (block_size - 1) // 2)
        self.s = nn.Parameter(torch.ones_like(new_weight(base, d_out)))

    def butterflies(self) -> Float[Tensor, "m k b b"]:
        """The blocks of each factor. As in OFT, a peft file holds the other sign of Q."""
        R = cayley(skew(self.Q, self.block_size)).unflatten(0, (self.factors, -1))
        return self._with_dropout(R) if self.training and self.dropout else R

    def _with_dropout(self, R: Float[Tensor, "m k b b"]) -> Float[Tensor, "m k b b"]:
        m, k, b, _ = R.shape
        factor = torch.arange(m) == torch.randint(0, m, (1,))
        lost = factor[:, None] & (torch.randperm(k) < int(self.dropout * k))
        return torch.where(lost[..., None, None].to(R.device), torch.eye(b, dtype=R.dtype, device=R.device), R)

    def turn(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        R = self.butterflies()
        for i in reversed(range(self.factors)):
            rows = self._flap(rows, R[i], i)
        return rows

    def turn_back(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        R = self.butterflies()
        for i in range(self.factors):
            rows = self._flap(rows, R[i].mT, i)
        return rows

    def _flap(self, rows: Float[Tensor, "*n width"], R: Float[Tensor, "k b b"], i: int) -> Float[Tensor, "*n width"]:
        """One factor: block (p, c) holds chunk c of both halves of stretch p. Factor 0 has no halves."""
        halves = 2 if i else 1
        chunk = self.block_size // halves
        r = rows.to(R.dtype).unflatten(-1, (-1, halves, 2**i, chunk))
        R = R.reshape(-1, 2**i, halves, chunk, halves, chunk)
        return torch.einsum("...phcj,pchjgk->...pgck", r, R).flatten(-4)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, b = super().forward(x), self.base.bias
        to_channels = (-1, 1, 1) if isinstance(self.base, nn.Conv2d) else (-1,)
        scaled = self.s.view(to_channels) * y
        if b is not None:  # y holds the bias already: give back what s took of it
            scaled = scaled + ((1 - self.s) * b).view(to_channels)
        return scaled.to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, self.s[:, None] * self.turned_weight())

    def extra_repr(self) -> str:
        said = f"block_size={self.block_size}, factors={self.factors}"
        return said + (f", dropout={self.dropout:g}" if self.dropout else "")
