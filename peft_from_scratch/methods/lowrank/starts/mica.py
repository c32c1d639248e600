"""MiCA: adapt only along the directions the weight uses least.  Rüdiger and Raschka 2026, arXiv:2604.01694.

    y = W x + s B A x        W = U diag(σ) Vᵀ,   B: (d_out, r) the last r columns of U, frozen,   A: (r, d_in) zero

The minor left singular vectors carry little of what the model knows: a change within their span disturbs little.
A = 0: starts as the base. Trains r d_in numbers a layer: only A. Merges as LoRA.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * d_in. Merges: yes. peft:
init_lora_weights='mica'.
"""

from torch import nn

from ....layers import new_weight, weight_of
from ..lora import LoRA, Start
from .spectrum import spectrum


def minor(base: nn.Module, rank: int, scale: float) -> Start:
    """A = 0, B = the left singular vectors of the r smallest singular values. ValueError for a rank above W's."""
    W = weight_of(base)
    U, _, _ = spectrum(W, rank)
    return Start(new_weight(base, rank, W.shape[1]), U[:, -rank:].clone())


class MiCA(LoRA):
    """LoRA whose B is a frozen part of the weight's basis."""

    def __init__(self, base: nn.Module, rank: int = 8, alpha: float = 16, dropout: float = 0.0, rslora: bool = False):
        super().__init__(base, rank, alpha, dropout, rslora, start=minor)
        B = self.B.detach()
        del self.B  # from what trains to what is only kept
        self.register_buffer("B", B)
