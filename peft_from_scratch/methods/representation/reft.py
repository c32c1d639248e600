"""LoReFT: change hidden states in a small subspace.  Wu et al. 2024, arXiv:2404.03592, section 3.2.

    LoReFT   h ← h + Rᵀ(W h + b - R h)          h: (width),  R, W: (r, width),  b: (r),  R Rᵀ = I
    NoReFT   the same with a free R             (appendix: no orthonormal rows)

LoReFT moves h so that its coordinates in the subspace of R become W h + b. R is made from a free matrix M by Gram and
Schmidt, which does not see how long M is: weight decay cannot hurt it. (The parametrisation in pyreft and adapters
turns R to zero at the first step of AdamW with its default decay.) Start: W = R, b = 0, the base; with `random_start`,
as in pyreft, W is random and the start is not the base. At chosen positions only: see positions.py.

Method: LoReFT. Paper: Wu et al. 2024, arXiv:2404.03592 §3.2. Kind: additive: other. On: any module that returns hidden
states: a block, a layer, a norm. Trains: 2 * rank * d_out + rank. Merges: no.

Method: NoReFT. Paper: Wu et al. 2024, arXiv:2404.03592 §3.2. Kind: additive: other. On: any module that returns hidden
states: a block, a layer, a norm. Trains: 2 * rank * d_out + rank. Merges: no.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import new_weight
from ..maths import orthonormal_rows
from .hidden import hidden, like, width_of, with_hidden
from .positions import AtPositions


class NoReFT(AtPositions):
    """`base` (a block or layer with outputs of `width`), then h + Rᵀ(W h + b - R h) with a free R."""

    def __init__(self, base: nn.Module, rank: int = 4, width: int | None = None, random_start: bool = False):
        super().__init__(base)
        if isinstance(base, nn.Conv2d):
            raise TypeError("ReFT changes hidden states of tokens: leave Conv2d out of the targets")
        width = width_of(base, width)
        if not 1 <= rank <= width:
            raise ValueError(f"rank must be 1 to the width {width}, not {rank}")
        layer = like(base)
        self.rank = rank
        self.M, self.W, self.b = new_weight(layer, width, rank), new_weight(layer, rank, width), new_weight(layer, rank)
        nn.init.orthogonal_(self.M)
        self.start(random_start)

    @torch.no_grad()
    def start(self, random_start: bool) -> None:
        """W: the rows of R, or a linear layer's default."""
        bound = 1 / math.sqrt(len(self.M))
        if random_start:
            self.W.uniform_(-bound, bound)
            self.b.uniform_(-bound, bound)
        else:
            self.W.copy_(self.R())

    def R(self) -> Float[Tensor, "rank width"]:
        """The subspace."""
        return self.M.T

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.base(*args, **kwargs)
        h = hidden(output)
        change = self.change(h.to(self.M.dtype)).to(h.dtype)
        if self.chosen is not None:
            change = torch.where(self.here(h), change, 0)
        return with_hidden(output, h + change)

    def change(self, h: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        """Rᵀ(W h + b - R h): one product with W - R for two."""
        R = self.R()
        return nn.functional.linear(h, self.W - R, self.b) @ R

    def extra_repr(self) -> str:
        return f"rank={self.rank}"


class LoReFT(NoReFT):
    """The same with orthonormal rows in R."""

    def R(self) -> Float[Tensor, "rank width"]:
        return orthonormal_rows(self.M)
