"""LoRA: learn a low-rank change to a frozen matrix.  Hu et al. 2021, arXiv:2106.09685, section 4.1.

    y = W x + s B A x        W: (d_out, d_in) frozen,  A: (r, d_in) random,  B: (d_out, r) zero,  s = alpha / r

B = 0: the adapted layer starts as the layer it wraps. With A = 0 as well, neither would ever get a gradient.
Trains r (d_in + d_out) numbers a layer. Merges: W + s B A costs nothing at inference.
With `rslora`, s = alpha / sqrt(r): the size of the change stays when r grows (Kalajdzievski 2023, arXiv:2312.03732).
"""

import math

from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight


class LoRA(Adapter):
    """`base` (Linear, Conv1D, Embedding or Conv2d) plus s B A."""

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16, dropout: float = 0.0, rslora: bool = False):
        super().__init__(base)
        if rank < 1 or alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, not rank={rank} and alpha={alpha}")
        d_out, d_in = weight_of(base).shape
        self.rank, self.alpha, self.rslora = rank, alpha, rslora
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)  # not alpha: see the docstring
        self.A = new_weight(base, rank, d_in)
        self.B = new_weight(base, d_out, rank)
        if isinstance(base, nn.Embedding):  # mirrored: a column of A belongs to one token and is rarely seen
            nn.init.normal_(self.B)
        else:
            nn.init.uniform_(self.A, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        BAx = up(self.base, down(self.base, self.dropout(x), self.A), self.B)
        return y + (self.scale * BAx).to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.scale * self.B @ self.A)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}" + (", rslora=True" if self.rslora else "")
