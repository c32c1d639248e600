"""HiRA: multiply the frozen matrix, entry by entry, by a low-rank one.
Huang et al. 2025 (ICLR), openreview TwJrTz9cRS.

    y = W x + (W ⊙ B A) x        A: (r, d_in) random,  B: (d_out, r) zero,  ⊙: entry by entry

W ⊙ B A has rank up to r times that of W: a change of high rank for LoRA's count. There is no alpha: W sets the size.
B = 0: the layer starts as it was. The change is a whole matrix: a step costs one more product with W than LoRA's.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft: HIRA.
"""

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_uniform, new_weight, weight_of
from ..maths import full_change
from ..parts import Added


class HiRA(Added):
    """`base` plus W ⊙ (B A)."""

    def __init__(self, base: nn.Module, rank: int = 32, dropout: float = 0.0):
        super().__init__(base)
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        d_out, d_in = weight_of(base).shape
        self.rank = rank
        if isinstance(base, nn.Embedding):  # mirrored, as in LoRA: a token's column of A is rarely seen
            self.A, self.B = new_weight(base, rank, d_in), nn.init.normal_(new_weight(base, d_out, rank))
        else:
            self.A, self.B = new_uniform(base, rank, d_in), new_weight(base, d_out, rank)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + full_change(self.base, self.dropout(x), self.change()).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """W ⊙ (B A)."""
        return weight_of(self.base) * (self.B @ self.A)

    def extra_repr(self) -> str:
        return f"rank={self.rank}"
