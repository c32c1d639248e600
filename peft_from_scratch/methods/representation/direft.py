"""DiReFT: LoRA on the hidden state.  Wu et al. 2024, arXiv:2404.03592, section 3.2.

    h ← h + Rᵀ(W h + b)        h: (width),  R, W: (r, width),  b: (r)

LoReFT (reft.py) without the term - R h and without orthonormal rows: cheaper a step. One of R and W starts at zero, the
other does not, as in LoRA: the base. With `random_start` neither is, as in pyreft, and the start is not the base.

Kind: additive: other. On: any module that returns hidden states: a block, a layer, a norm. Trains: 2 * rank * d_out +
rank. Merges: no.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..maths import orthonormal_rows
from .reft import NoReFT


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
