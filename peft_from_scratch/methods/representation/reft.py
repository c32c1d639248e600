"""ReFT: change hidden states in a small subspace.  Wu et al. 2024, arXiv:2404.03592, section 3.2.

    LoReFT   h ← h + Rᵀ(W h + b - R h)          h: (width),  R, W: (r, width),  b: (r),  R Rᵀ = I
    NoReFT   the same with a free R             (appendix: no orthonormal rows)
    DiReFT   h ← h + Rᵀ(W h + b)                with a free R: LoRA on the hidden state

LoReFT moves h so that its coordinates in the subspace of R become W h + b. R is made from a free matrix M by Gram and
Schmidt, which does not see how long M is: weight decay cannot hurt it. (The parametrisation in pyreft and adapters
turns R to zero at the first step of AdamW with its default decay.) Start: W = R, b = 0 (DiReFT: R or W
is 0), the base; with `random_start`, as in pyreft, W is random and the start is not the base.
Trains 2 r width + r numbers a site. At chosen positions only: see positions.py. Does not merge.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import new_weight
from ..card import Card
from ..maths import orthonormal_rows
from .hidden import hidden, like, width_of, with_hidden
from .positions import AtPositions

CARDS = [
    Card(
        name=name,
        paper="Wu et al.",
        year=2024,
        source="arXiv:2404.03592 §3.2",
        category="additive: other",
        attaches="any module that returns hidden states: a block, a layer, a norm",
        count="2 * rank * d_out + rank",
        merges=False,
    )
    for name in ("LoReFT", "NoReFT", "DiReFT")
]


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


class DiReFT(NoReFT):
    """`base`, then h + Rᵀ(W h + b). `orthonormal`: R as in LoReFT, which pyreft's class of this name has."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 4,
        width: int | None = None,
        random_start: bool = False,
        orthonormal: bool = False,
    ):
        self.orthonormal = orthonormal
        super().__init__(base, rank, width, random_start)

    @torch.no_grad()
    def start(self, random_start: bool) -> None:
        super().start(random_start=True)
        if not random_start:  # one factor zero, the other not, as in LoRA
            (self.W if self.orthonormal else self.M).zero_()
            self.b.zero_()

    def R(self) -> Float[Tensor, "rank width"]:
        return orthonormal_rows(self.M) if self.orthonormal else self.M.T

    def change(self, h: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        return nn.functional.linear(h, self.W, self.b) @ self.R()

    def extra_repr(self) -> str:
        return f"rank={self.rank}" + (", orthonormal=True" if self.orthonormal else "")
