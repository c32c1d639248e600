"""HiRA: multiply the frozen matrix, entry by entry, by a low-rank one.

Huang et al. 2025 (ICLR), openreview TwJrTz9cRS.

    y = W x + (W ⊙ B A) x        A: (r, d_in) random,  B: (d_out, r) zero,  ⊙: entry by entry

W ⊙ B A has rank up to r times that of W: a change of high rank for LoRA's count. There is no alpha: W sets the size.
B = 0: the layer starts as it was. Trains r (d_in + d_out) numbers a layer. Merges.
The change is a whole matrix, so a step costs about one more product with W than LoRA's.
"""

import math

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight, weight_of, with_weight
from ..card import Card
from ..maths import full_change

CARD = Card(
    name="HiRA",
    paper="Huang et al.",
    year=2025,
    source="openreview TwJrTz9cRS",
    category="reparametrized",
    attaches="Linear, Conv1D, Embedding, Conv2d",
    count="rank * (d_in + d_out)",
    merges=True,
    peft="HIRA",
)


class HiRA(Adapter):
    """`base` plus W ⊙ (B A)."""

    def __init__(self, base: nn.Module, rank: int = 32, dropout: float = 0.0):
        super().__init__(base)
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        d_out, d_in = weight_of(base).shape
        self.rank = rank
        self.A, self.B = new_weight(base, rank, d_in), new_weight(base, d_out, rank)
        if isinstance(base, nn.Embedding):  # mirrored, as in LoRA: a token's column of A is rarely seen
            nn.init.normal_(self.B)
        else:
            nn.init.uniform_(self.A, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + full_change(self.base, self.dropout(x), self.change()).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """W ⊙ (B A)."""
        return weight_of(self.base) * (self.B @ self.A)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.change())

    def extra_repr(self) -> str:
        return f"rank={self.rank}"
