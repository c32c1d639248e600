"""A layer that reads its input turned: y = W (Rᵀ x) + b with R orthogonal, which is the layer with weight W Rᵀ.

Turning x costs tokens times a small factor and leaves W alone; turning W would cost d_out times as much and hold a
second W. A convolution reads overlapping patches, which one turned picture cannot hold: there the kernels are turned.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import weight_of, with_weight


class Turned(Adapter):
    """What OFT, BOFT and HRA share; each page says how a row is turned."""

    def turn(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """Each row r -> r R: so x becomes Rᵀ x."""
        raise NotImplementedError

    def turn_back(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        """Each row r -> r Rᵀ: so W becomes W Rᵀ."""
        raise NotImplementedError

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        if isinstance(self.base, nn.Conv2d):
            kernels = self.turned_weight().to(self.base.weight.dtype).view_as(self.base.weight)
            return torch.func.functional_call(self.base, {"weight": kernels}, (x,))
        return self.base(self.turn(x).to(x.dtype))

    def turned_weight(self) -> Float[Tensor, "d_out d_in"]:
        """W Rᵀ."""
        return self.turn_back(weight_of(self.base))

    def merged(self) -> nn.Module:
        return with_weight(self.base, self.turned_weight())


def check_blocks(width: int, size: int, times: int = 1) -> None:
    """ValueError where `times` blocks of `size` do not fill `width` features evenly; it says which sizes would."""
    if size < 2 or width % (size * times):
        fits = sorted((b for b in range(2, width + 1) if width % (b * times) == 0), key=lambda b: abs(b - size))
        blocks = "blocks" if times == 1 else f"groups of {times} blocks"
        raise ValueError(
            f"{blocks} of {size} do not divide {width} features: "
            + (f"use a block size of {', '.join(map(str, sorted(fits[:6])))}" if fits else "no block size does")
        )
