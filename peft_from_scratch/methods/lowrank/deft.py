"""DEFT: take a few directions out of what a layer writes, and write something learned there.
Kumar et al. 2025 (NeurIPS), arXiv:2509.22793.

    W' = (I - Q Pᵣᵀ) W + s Q R      P: (d_out, r) random,  R: (r, d_in),  s = alpha / r (1 without an alpha)
    projection="qr":   Q = Pᵣ = the orthonormal basis of P's columns, so I - Q Qᵀ is an exact projection
    projection="relu": Q = P, Pᵣ = ReLU(P), Hugging Face peft's default: cheaper, and not strictly a projection

R starts as Pᵣᵀ W / s, which puts back what was taken out: the layer starts as it was. `remove_only` is PaRa (Chen et
al. 2024, arXiv:2406.05641): no R, r d_out numbers, and it starts changed.
Since W' - W = Q (s R - Pᵣᵀ W), the step works with r rows, never with a d_out by d_out projection.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * d_out if remove_only else rank * (d_in +
d_out). Merges: yes. peft: DEFT.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_weight, up, weight_of
from ..parts import Added


class DEFT(Added):
    """`base` plus Q (s R - Pᵣᵀ W)."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float | None = None,
        projection: str = "relu",
        remove_only: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__(base)
        d_out, d_in = weight_of(base).shape
        if not 1 <= rank <= d_out:
            raise ValueError(f"rank must be from 1 to d_out = {d_out}, not {rank}")
        if projection not in ("relu", "qr") or (alpha is not None and alpha <= 0):
            raise ValueError(f"projection must be 'relu' or 'qr' and alpha above 0, not {projection!r} and {alpha}")
        self.rank, self.alpha, self.projection, self.remove_only = rank, alpha, projection, remove_only
        self.scale = 1.0 if alpha is None else alpha / rank
        self.P = nn.init.normal_(new_weight(base, d_out, rank), std=0.02)
        with torch.no_grad():
            self.R = None if remove_only else nn.Parameter(self.taken(self.sides()[1]) / self.scale)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def sides(self) -> tuple[Float[Tensor, "d_out rank"], Float[Tensor, "d_out rank"]]:
        """Q and Pᵣ."""
        if self.projection == "relu":
            return self.P, self.P.relu()
        Q = torch.linalg.qr(self.P).Q
        return Q, Q

    def taken(self, right: Float[Tensor, "d_out rank"]) -> Float[Tensor, "rank d_in"]:
        """Pᵣᵀ W: what is taken out."""
        return right.T @ weight_of(self.base).to(right.dtype)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        Q, right = self.sides()
        h = -down(self.base, x, self.taken(right))
        if self.R is not None:
            h = h + down(self.base, self.dropout(x), self.scale * self.R)
        return y + up(self.base, h, Q).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """Q (s R - Pᵣᵀ W)."""
        Q, right = self.sides()
        return Q @ ((0 if self.R is None else self.scale * self.R) - self.taken(right))

    def extra_repr(self) -> str:
        text = f"rank={self.rank}, projection={self.projection}"
        text += "" if self.alpha is None else f", alpha={self.alpha:g}"
        return text + (", remove_only=True" if self.remove_only else "")
