"""LoRA-XS: train only an r × r matrix between the layer's own singular vectors.  Bałazy et al. 2024, arXiv:2405.17604,
section 3.

    y = W x + B R A x      W ≈ U Σ Vᵀ to rank r;  A = Vᵀ: (r, d_in), B = U Σ: (d_out, r) frozen;  R: (r, r)

R starts N(0, 10⁻⁵ ²): the layer starts almost as it was. A and B are stored with R: singular vectors have signs that
differ between machines.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank**2. Merges: yes.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from ..maths import top_svd
from ..parts import beside


class LoRAXS(Adapter):
    """`base` plus B R A."""

    def __init__(self, base: nn.Module, rank: int = 8, std: float = 1e-5):
        super().__init__(base)
        A, B = frame(base, rank)
        self.register_buffer("A", A)
        self.register_buffer("B", B)
        self.R = nn.init.normal_(new_weight(base, rank, rank), std=std)

    def core(self) -> Float[Tensor, "rank rank"]:
        return self.R

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + up(self.base, down(self.base, x, self.A), self.B @ self.core()).to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.B @ self.core() @ self.A)

    def extra_repr(self) -> str:
        return f"rank={len(self.A)}"


def frame(
    base: nn.Module, rank: int, power: float = 1.0
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """A = Σ^(1 - power) Vᵀ and B = U Σ^power of the layer's best approximation of that rank."""
    W = weight_of(base)
    if not 1 <= rank <= min(W.shape):
        raise ValueError(f"rank must lie between 1 and {min(W.shape)}, the number of singular values, not {rank}")
    U, S, Vt = top_svd(beside(base, W.detach()), rank)
    return S[:, None] ** (1 - power) * Vt, U * torch.pow(S, power)
