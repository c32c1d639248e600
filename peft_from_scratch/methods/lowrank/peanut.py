"""PEANuT: a small network reads the frozen weight and writes the change to it.
Zhong et al. 2024, arXiv:2410.01870.

    y = W x + s B H x      H = f(A W),  then `depth` times  H <- f(E_i H),  then back:  H <- f(D_i H) + (H before E_i)
    A: (r, d_out) random,  B: (d_out, r) zero,  E_i, D_i: (r, r) random,  f: ReLU or another,  s = scale

B = 0: the layer starts as it was. The change has rank r whatever f does, so it is used as B (H x): no matrix as large
as W is made (Hugging Face peft makes it). A W costs as much as r more inputs would.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: 2 * rank * d_out + 2 * depth * rank**2. Merges:
yes. peft: PEANUT.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_uniform, new_weight, up, weight_of
from ..parts import Added


class PEANuT(Added):
    """`base` plus s B H; `activation` names a function of torch.nn.functional or torch (relu, gelu, sin, ...)."""

    def __init__(self, base: nn.Module, rank: int = 32, depth: int = 0, scale: float = 1.0, activation: str = "relu"):
        super().__init__(base)
        if rank < 1 or depth < 0:
            raise ValueError(f"rank must be at least 1 and depth 0 or more, not rank={rank} and depth={depth}")
        if not hasattr(F, activation) and not hasattr(torch, activation):
            raise ValueError(f"torch.nn.functional and torch have no {activation!r}: try relu, gelu, silu or tanh")
        d_out = len(weight_of(base))
        self.rank, self.depth, self.scale, self.activation = rank, depth, scale, activation
        self.A, self.B = new_uniform(base, rank, d_out), new_weight(base, d_out, rank)
        self.E = nn.ParameterList(new_uniform(base, rank, rank) for _ in range(depth))
        self.D = nn.ParameterList(new_uniform(base, rank, rank) for _ in range(depth))

    def read(self) -> Float[Tensor, "rank d_in"]:
        """H: what the network makes of W."""
        f = getattr(F, self.activation, None) or getattr(torch, self.activation)
        H = f(self.A @ weight_of(self.base).to(self.A.dtype))
        kept = []
        for E in self.E:
            kept.append(H)
            H = f(E @ H)
        for D in self.D:
            H = f(D @ H) + kept.pop()
        return H

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        BHx = up(self.base, down(self.base, x, self.read()), self.B)
        return y + (self.scale * BHx).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """s B H."""
        return self.scale * (self.B @ self.read())

    def extra_repr(self) -> str:
        return f"rank={self.rank}, depth={self.depth}, scale={self.scale:g}, activation={self.activation}"
