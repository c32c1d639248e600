"""KaSA: drop the weight's noise, learn with a trained spectrum.  Wang et al. 2024, arXiv:2412.06071, section 3.

    y = (W - U_n V_n) x + s B diag(d) A x + b        U_n V_n: the part of W with its r smallest singular values
    A: (r, d_in),  B: (d_out, r),  d: (r,) the singular values of the change

W without its smallest directions is the "world knowledge" that stays; d says how much each new direction counts.
`penalty` (add it to the loss) keeps d small and the columns of B and the rows of A near orthonormal.
B = 0, but the layer does not start as it was: it starts without U_n V_n. That is taken off by buffers of the adapter,
so the base stays whole (Hugging Face peft truncates it for good). Trains r (d_in + d_out + 1) numbers a layer. Merges.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import down, new_weight, up, weight_of, with_weight
from ..card import Card
from ..maths import svd
from .lora import LoRA

CARD = Card(
    name="KaSA",
    paper="Wang et al.",
    year=2024,
    source="arXiv:2412.06071 §3",
    category="reparametrized",
    attaches="Linear, Conv1D, Embedding, Conv2d",
    count="rank * (d_in + d_out + 1)",
    merges=True,
    peft="kasa_config",
)


class KaSA(LoRA):
    """LoRA with a trained d between B and A, over `base` without its r smallest singular values."""

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16, dropout: float = 0.0, rslora: bool = False):
        W = weight_of(base)
        if rank >= min(W.shape):
            raise ValueError(
                f"KaSA drops rank of W's {min(W.shape)} directions and must leave one: use fewer than {rank}"
            )
        super().__init__(base, rank, alpha, dropout, rslora)
        self.d = nn.Parameter(nn.init.normal_(new_weight(base, rank)))
        U, S, Vt = svd(W)
        self.register_buffer("U_n", U[:, -rank:] * S[-rank:])
        self.register_buffer("V_n", Vt[-rank:].clone())

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, noise = self.base(x), up(self.base, down(self.base, x, self.V_n), self.U_n)
        return y + (self.learned(self.dropout(x)) - noise).to(y.dtype)

    def learned(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.scale * up(self.base, down(self.base, x, self.A), self.B * self.d)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return self.scale * (self.B * self.d) @ self.A - self.U_n @ self.V_n

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.change())


def penalty(model: nn.Module, beta: float = 1e-4, gamma: float = 1e-3) -> Float[Tensor, ""]:
    """To add to the loss: the sum over adapters of beta ‖d‖² + gamma (‖Bᵀ B - I‖ + ‖A Aᵀ - I‖), eq. 9 to 11."""
    found = [a for _, a in adapters(model) if isinstance(a, KaSA)]
    if not found:
        raise ValueError("this model has no KaSA adapters, so there is nothing to keep small and orthonormal")
    return sum(beta * a.d.square().sum() + gamma * (skewed(a.B.T) + skewed(a.A)) for a in found)


def skewed(M: Float[Tensor, "r n"]) -> Float[Tensor, ""]:
    """How far the rows are from orthonormal: ‖M Mᵀ - I‖."""
    return torch.linalg.norm(M @ M.T - torch.eye(len(M), dtype=M.dtype, device=M.device))
