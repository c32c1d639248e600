"""PSOFT: rotate the frozen matrix inside its own principal subspace.  Wu et al. 2025, arXiv:2505.11235, section 4.

    y = W x + B (diag(β) R diag(α) - I) A x     A = Vᵀ: (r, d_in),  B = U Σ: (d_out, r), frozen, of W's SVD
    R = (I - Q)⁻¹ (I + Q), a rotation;  Q = -Qᵀ: (r, r), trained above its diagonal;  α, β: (r,) trained

A's rows are orthonormal, so a rotation keeps the angles and lengths in W's top part (theorem 4.1); α and β relax that.
Q = 0 and α = β = 1: the layer starts as it was. The paper writes Wᵀx, so its R is the transpose of this one. In Hugging
Face peft an alpha / r divides B and multiplies the product, which cancels.
A and B are saved: a singular vector's sign is the machine's choice, and with another Q would mean another rotation.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (rank - 1) // 2 + 2 * rank. Merges: yes.
peft: PSOFT.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_weight, up, weight_of
from ..maths import cayley, cayley_neumann, skew, top_svd
from ..parts import Added


class PSOFT(Added):
    """`base` with its top `rank` singular directions rotated (and stretched, with `relaxed`).

    `terms`: R from so many powers of Q instead of the inverse, as in the paper's runs (it took 5; 0 means exact).
    `symmetric`: A = √Σ Vᵀ and B = U √Σ, PiSSA's split, with which angles are not kept. `niter`: a fast SVD.
    """

    def __init__(
        self,
        base: nn.Module,
        rank: int = 32,
        relaxed: bool = True,
        terms: int = 0,
        symmetric: bool = False,
        niter: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__(base)
        W = weight_of(base).detach()
        if not 1 <= rank <= min(W.shape) or terms < 0:
            raise ValueError(f"rank must be from 1 to {min(W.shape)} and terms 0 or more, not {rank} and {terms}")
        self.rank, self.relaxed, self.terms, self.symmetric = rank, relaxed, terms, symmetric
        self.Q = new_weight(base, rank * (rank - 1) // 2)
        self.alpha = nn.init.ones_(new_weight(base, rank)) if relaxed else None
        self.beta = nn.init.ones_(new_weight(base, rank)) if relaxed else None
        U, S, Vt = top_svd(W.to(self.Q.dtype), rank, niter)
        self.register_buffer("A", S.sqrt()[:, None] * Vt if symmetric else Vt)
        self.register_buffer("B", U * S.sqrt() if symmetric else U * S)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def turn(self) -> Float[Tensor, "rank rank"]:
        """diag(β) R diag(α) - I."""
        Q = skew(self.Q, self.rank)
        R = cayley_neumann(Q, self.terms) if self.terms else cayley(Q)
        if self.relaxed:
            R = self.beta[:, None] * R * self.alpha
        return R - torch.eye(self.rank, dtype=R.dtype, device=R.device)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        turned = up(self.base, down(self.base, self.dropout(x), self.A), self.B @ self.turn())
        return y + turned.to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """B (diag(β) R diag(α) - I) A."""
        return self.B @ self.turn() @ self.A

    def extra_repr(self) -> str:
        text = f"rank={self.rank}, relaxed={self.relaxed}" + (f", terms={self.terms}" if self.terms else "")
        return text + (", symmetric=True" if self.symmetric else "")
