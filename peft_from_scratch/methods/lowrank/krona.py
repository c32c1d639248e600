"""KronA: the change is a Kronecker product of two small matrices.  Edalati et al. 2022, arXiv:2212.10650, section 4.

    y = W x + s (A ⊗ B) x        A: (a1, a2),  B: (b1, b2),  a1 b1 = d_out,  a2 b2 = d_in

Block ij of the change is A[i, j] B. Its rank is the product of the ranks of A and B, so it can be full, with only
a1 a2 + b1 b2 numbers: fewest where both are about square root size. B = 0: the layer starts as it was. Never formed in
training: x as an (a2, b2) matrix X gives A X Bᵀ. This is LoKr with both factors whole.

Kind: reparametrized. On: Linear, Conv1D. Trains: a1 * a2 + (d_out // a1) * (d_in // a2). Merges: yes.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight, weight_of, with_weight
from ..maths import factors, kronecker_times


class KronA(Adapter):
    """`base` plus s A ⊗ B. `shape` is A's (a1, a2); without it the squarest that fits."""

    def __init__(self, base: nn.Module, shape: tuple[int, int] | None = None, scale: float = 1.0):
        super().__init__(base)
        if isinstance(base, nn.Embedding | nn.Conv2d):
            raise TypeError(f"KronA multiplies vectors, not what a {type(base).__name__} sees: target linear layers")
        d_out, d_in = weight_of(base).shape
        a1, a2 = shape or (factors(d_out)[0], factors(d_in)[0])
        if d_out % a1 or d_in % a2:
            raise ValueError(
                f"A of shape {(a1, a2)} does not divide W of shape {(d_out, d_in)}: "
                f"rows may be {divisors(d_out)}, columns {divisors(d_in)}"
            )
        self.scale = scale
        self.A = nn.init.kaiming_uniform_(new_weight(base, a1, a2), a=5**0.5)
        self.B = new_weight(base, d_out // a1, d_in // a2)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + (self.scale * kronecker_times(self.A, self.B, x.to(self.A.dtype))).to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.scale * torch.kron(self.A, self.B))

    def extra_repr(self) -> str:
        return f"shape={tuple(self.A.shape)}, scale={self.scale:g}"


def divisors(d: int) -> list[int]:
    return [m for m in range(1, d + 1) if d % m == 0]
