"""OSF: learn in the directions a weight hardly uses, protect the others.  Nayak et al. 2025, arXiv:2504.07097.

    y = (U_h S_h V_h + U S V) x + b        W = U_h S_h V_h + U0 S0 V0 by its singular values, the `keep` largest first

U: (d_out, k), S: (k), V: (k, d_in) train, k = min(d_out, d_in) - keep; U_h, V_h are what earlier tasks rest on. The
gradients of U and V lose their part along them: g_U - U_h U_hᵀ g_U and g_V - g_V V_hᵀ V_h. Starts as the base: U = U0,
and U S V - U0 S0 V0 is what is added. Trains k (d_in + d_out + 1) numbers a layer: this saves forgetting, not memory.
Under SGD W's protected part stays. Adam divides the gradient entry by entry and decays, which leads out of the free
directions again: `project(model)` after each step puts U and V back into them.

Kind: selective. On: Linear, Conv1D, Embedding, Conv2d. Trains: (min(d_in, d_out) - keep) * (d_in + d_out + 1). Merges:
yes. peft: OSF.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from ..maths import svd


class OSF(Adapter):
    """`base` with its smaller singular values and their vectors trained; the `keep` largest (half) are protected."""

    def __init__(self, base: nn.Module, keep: int | None = None):
        super().__init__(base)
        d = min(weight_of(base).shape)
        self.keep = d // 2 if keep is None else keep
        if not 0 < self.keep < d:
            raise ValueError(f"keep must be from 1 to {d - 1}, so that some is protected and some trains, not {keep}")
        U, S, V = (t.to(new_weight(base)) for t in svd(weight_of(base)))
        h = self.keep
        # found again from the base when a file is loaded, so not saved
        frozen = {"U_h": U[:, :h], "V_h": V[:h], "U0": U[:, h:], "S0": S[h:], "V0": V[h:]}
        for name, t in frozen.items():
            self.register_buffer(name, t.clone(memory_format=torch.contiguous_format), persistent=False)
        self.U, self.S, self.V = (nn.Parameter(t.clone()) for t in (self.U0, self.S0, self.V0))

    def free(self) -> tuple[Float[Tensor, "d_out k"], Float[Tensor, "k d_in"]]:
        """U and V, whose gradients lose what lies along U_h and V_h."""
        U, V = self.U.detach(), self.V.detach()
        return U + self.beside_U(self.U - U), V + self.beside_V(self.V - V)

    def beside_U(self, d: Float[Tensor, "d_out k"]) -> Float[Tensor, "d_out k"]:
        """The part of each column of `d` at right angles to U_h."""
        return d - self.U_h @ (self.U_h.T @ d)

    def beside_V(self, d: Float[Tensor, "k d_in"]) -> Float[Tensor, "k d_in"]:
        """The part of each row of `d` at right angles to V_h."""
        return d - (d @ self.V_h.T) @ self.V_h

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, (U, V) = self.base(x), self.free()
        now = up(self.base, down(self.base, x, V), U * self.S)
        before = up(self.base, down(self.base, x, self.V0), self.U0 * self.S0)
        return y + (now - before).to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + (self.U * self.S) @ self.V - (self.U0 * self.S0) @ self.V0)

    def extra_repr(self) -> str:
        return f"keep={self.keep}"


@torch.no_grad()
def project(model: nn.Module) -> None:
    """Take out of every U and V what an optimiser step put along the protected directions."""
    for _, a in adapters(model):
        if isinstance(a, OSF):
            a.U.copy_(a.U0 + a.beside_U(a.U - a.U0))
            a.V.copy_(a.V0 + a.beside_V(a.V - a.V0))
