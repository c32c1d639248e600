"""DoRA: learn the length and the direction of the rows of W apart.  Liu et al. 2024, arXiv:2402.09353, section 4.

    y = m ⊙ (V / ‖V‖) x + b,   V = W + s B A        m: (d_out,) trained, starts at ‖W‖;  ‖V‖: (d_out,) row by row

The paper calls them columns, for it writes W the other way round; b is not scaled. As in its section 4.3, ‖V‖ gets no
gradient, which saves memory and moves the result little. B = 0 and m = ‖W‖: the layer starts as it was.
Merges: m ⊙ V / ‖V‖.
Each forward makes the d_out x d_in matrix V once, for its norm; the product with x stays W x + s B A x.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out) + d_out. Merges: yes. peft:
use_dora.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import weight_of, with_weight
from .lora import LoRA, Start, along_features, uniform


class DoRA(LoRA):
    """LoRA that turns the rows of W, and one trained length a row."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        rslora: bool = False,
        start: Callable[[nn.Module, int, float], Start] = uniform,
    ):
        super().__init__(base, rank, alpha, dropout, rslora, start)
        self.m = nn.Parameter(self.norm())

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, dropped = self.base(x), self.dropout(x)
        Wx = self.base(dropped) if self.training and isinstance(self.dropout, nn.Dropout) else y
        if getattr(self.base, "bias", None) is not None:
            Wx = Wx - along_features(self.base, self.base.bias)
        g = along_features(self.base, self.m / self.norm())
        return y + ((g - 1) * Wx + g * self.learned(dropped)).to(y.dtype)  # y as it is: at the start g is exactly 1

    @torch.no_grad()
    def norm(self) -> Float[Tensor, " d_out"]:
        """‖V‖, the length of each row; a constant to the gradient."""
        return torch.linalg.vector_norm(weight_of(self.base) + self.change(), dim=1)

    def merged(self) -> nn.Module:
        return with_weight(self.base, (self.m / self.norm())[:, None] * (weight_of(self.base) + self.change()))
