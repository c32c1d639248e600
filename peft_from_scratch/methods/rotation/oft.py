"""OFT: turn the weights, leave their lengths and angles.  Qiu et al. 2023, arXiv:2306.07280.

    y = W Rᵀ x + b        R = diag(R_1, ..., R_k) of blocks (b, b),   R_i = (I + Q_i)(I - Q_i)⁻¹,   Q_i = -Q_iᵀ

Q = 0, so R = I: the adapted layer starts as the layer it wraps. Trains d_in (b - 1) / 2 numbers a layer, or b (b - 1) /
2 with one block `shared` by all. Merges into W Rᵀ. An embedding turns what it gives instead: its rows e become e R.
`terms` of the Neumann series in place of the inverse (at least 3; 0 is exact) make it OFTv2, which turns x and never W:
cheaper, and no longer quite a rotation (Qiu et al. 2025, arXiv:2506.19847). With `epsilon` it is COFT: ‖Q‖ is held in a
ball.

Kind: reparametrized. On: Linear, Conv1D, Conv2d; Embedding (there d_out for d_in). Trains: (block_size if shared else
d_in) * (block_size - 1) / 2. Merges: yes. peft: OFT.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight, weight_of, with_weight
from ..maths import cayley, cayley_neumann, skew
from .turned import Turned, check_blocks


class OFT(Turned):
    """`base` with its input (an embedding: its output) turned block by block."""

    def __init__(
        self, base: nn.Module, block_size: int = 32, terms: int = 0, shared: bool = False, epsilon: float | None = None
    ):
        super().__init__(base)
        width = weight_of(base).shape[0 if isinstance(base, nn.Embedding) else 1]
        check_blocks(width, block_size)
        if terms in (1, 2) or terms < 0 or (epsilon is not None and epsilon <= 0):
            raise ValueError(
                f"terms must be 0 (exact) or at least 3, and epsilon above 0, not terms={terms} and epsilon={epsilon}"
            )
        self.block_size, self.terms, self.shared, self.epsilon = block_size, terms, shared, epsilon
        self.Q = new_weight(base, 1 if shared else width // block_size, block_size * (block_size - 1) // 2)

    def blocks(self) -> Float[Tensor, "k b b"]:
        """The R_i. peft 0.21.2 exact is (I - Q)(I + Q)⁻¹: there a file's Q is -Q here; its series has this sign."""
        Q = skew(self.Q, self.block_size)
        if self.epsilon is not None:  # where the paper projects Q after a step, here forward sees it projected
            Q = in_ball(Q, self.epsilon / math.sqrt(len(Q)))
        return cayley_neumann(Q, self.terms) if self.terms else cayley(Q)

    def turn(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        return self._blockwise(rows, self.blocks())

    def turn_back(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        return self._blockwise(rows, self.blocks().mT)

    def _blockwise(self, rows: Float[Tensor, "*n width"], R: Float[Tensor, "k b b"]) -> Float[Tensor, "*n width"]:
        r = rows.to(R.dtype).unflatten(-1, (-1, self.block_size))
        return (r @ R[0] if self.shared else torch.einsum("...kb,kbc->...kc", r, R)).flatten(-2)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        if isinstance(self.base, nn.Embedding):
            e = self.base(x)
            return self.turn(e).to(e.dtype)
        return super().forward(x)

    def merged(self) -> nn.Module:
        if isinstance(self.base, nn.Embedding):
            return with_weight(self.base, self.turn(weight_of(self.base).T).T)
        return super().merged()

    def extra_repr(self) -> str:
        said = f"block_size={self.block_size}" + (f", terms={self.terms}" if self.terms else "")
        return said + ", shared=True" * self.shared + (f", epsilon={self.epsilon:g}" if self.epsilon else "")


def in_ball(Q: Float[Tensor, "k b b"], radius: float) -> Float[Tensor, "k b b"]:
    """Each matrix as it is, or shrunk to the Frobenius norm `radius` where its norm is larger."""
    norm = torch.linalg.vector_norm(Q, dim=(1, 2), keepdim=True)
    return Q * (radius / norm.clamp(min=radius))
