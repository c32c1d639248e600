"""KaSA: drop the weight's noise, learn with a trained spectrum.  Wang et al. 2024, arXiv:2412.06071, section 3.

    y = (W - U_n V_n) x + s B diag(d) A x + b        U_n V_n: the part of W with its r smallest singular values
    A: (r, d_in),  B: (d_out, r),  d: (r,) the singular values of the change

W without its smallest directions is the "world knowledge" that stays; d says how much each new direction counts.
`penalty` (add it to the loss) keeps d small and the columns of B and the rows of A near orthonormal.
B = 0, yet the layer starts changed, without U_n V_n: buffers take it off and the base stays whole (peft truncates it).

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out + 1). Merges: yes. peft:
kasa_config.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import down, new_weight, up, weight_of
from ..maths import svd
from .lora import LoRA


class KaSA(LoRA):
    """LoRA with a trained d between B and A, over `base` without its r smallest singular values."""

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16, dropout: float = 0.0, rslora: bool = False):
        W = weight_of(base)
        if rank >= min(W.shape):
            raise ValueError(f"KaSA drops {rank} directions and must leave one: use fewer than {min(W.shape)}")
        super().__init__(base, rank, alpha, dropout, rslora)
        self.d = nn.Parameter(nn.init.normal_(new_weight(base, rank)))
        U, S, Vt = svd(W)
        self.register_buffer("U_n", U[:, -rank:] * S[-rank:])
        self.register_buffer("V_n", Vt[-rank:].clone())

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, noise = self.base(x), up(self.base, down(self.base, x, self.V_n), self.U_n)
        return y + (self.learned(self.dropout(x)) - noise).to(y.dtype)

    def learned(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        return up(self.base, down(self.base, x, self.A), self.B * (self.scale * self.d))

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return self.scale * (self.B * self.d) @ self.A - self.U_n @ self.V_n


def penalty(model: nn.Module, beta: float = 1e-4, gamma: float = 1e-3) -> Float[Tensor, ""]:
    """To add to the loss: the sum over adapters of beta ‖d‖² + gamma (‖Bᵀ B - I‖ + ‖A Aᵀ - I‖), eq. 9 to 11."""
    found = [a for _, a in adapters(model) if isinstance(a, KaSA)]
    if not found:
        raise ValueError("this model has no KaSA adapters, so there is nothing to keep small and orthonormal")
    return sum(beta * a.d.square().sum() + gamma * (skewed(a.B.T) + skewed(a.A)) for a in found)


def skewed(M: Float[Tensor, "r n"]) -> Float[Tensor, ""]:
    """How far the rows are from orthonormal: ‖M Mᵀ - I‖."""
    return torch.linalg.norm(M @ M.T - torch.eye(len(M), dtype=M.dtype, device=M.device))
