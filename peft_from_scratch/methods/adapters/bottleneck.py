"""The small network A of bottleneck adapters, and what all adapters that stand in a block have in common.

A(h) = s (U φ(D h + b_D) + b_U)        D: (size, d) down,  U: (d, size) up,  φ a non-linearity
"""

import math
from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn, ones_like

from ...adapter import Adapter, plain
from ...layers import is_linear, new_weight, weight_of

NON_LINEARITIES = {"gelu": F.gelu, "relu": F.relu, "swish": F.silu, "tanh": F.tanh}


def width(layer: nn.Module) -> int:
    """How many numbers a layer puts out for a token; a norm's weight has one for each."""
    if not is_linear(layer) and isinstance(getattr(layer, "weight", None), Tensor) and layer.weight.dim() == 1:
        return len(layer.weight)
    if isinstance(layer, nn.Conv2d):
        raise TypeError("a bottleneck adapter needs the features last, which a convolution has not: leave it out")
    return weight_of(layer).shape[0]


def non_linearity(name: str) -> Callable[[Tensor], Tensor]:
    """The function φ; ValueError for a name that is not known."""
    if name not in NON_LINEARITIES:
        raise ValueError(f"unknown non-linearity {name!r}: one of {', '.join(NON_LINEARITIES)}")
    return NON_LINEARITIES[name]


class Bottleneck(nn.Module):
    """A for outputs of `layer` (a Linear, Conv1D, Embedding or norm), or for its inputs where `d_in` says their number.

    `std`: D and U start as normals cut at two standard deviations, so that A is small; None: D ~ U(±1/√d_in) and U = 0,
    so that A = 0. `scale`: s, or "learned", from 1.
    """

    def __init__(
        self,
        layer: nn.Module,
        size: int,
        act: str = "relu",
        std: float | None = 0.02,
        scale: float | str = 1.0,
        d_in: int | None = None,
    ):
        super().__init__()
        if size < 1:
            raise ValueError(f"the bottleneck needs a size of at least 1, not {size}")
        if isinstance(scale, str) and scale != "learned":
            raise ValueError(f"scale must be a number or 'learned', not {scale!r}")
        d_out = width(layer)
        d_in = d_out if d_in is None else d_in
        self.act, self.phi = act, non_linearity(act)
        self.D, self.b_D = new_weight(layer, size, d_in), new_weight(layer, size)
        self.U, self.b_U = new_weight(layer, d_out, size), new_weight(layer, d_out)
        self.s = nn.Parameter(ones_like(new_weight(layer, 1))) if scale == "learned" else scale
        if std is None:
            nn.init.uniform_(self.D, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
        else:
            for W in self.D, self.U:
                nn.init.trunc_normal_(W, std=std, a=-2 * std, b=2 * std)

    def forward(self, h: Shaped[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return self.s * F.linear(self.phi(F.linear(h.to(self.D.dtype), self.D, self.b_D)), self.U, self.b_U)

    def extra_repr(self) -> str:
        scale = "learned" if isinstance(self.s, Tensor) else f"{self.s:g}"
        return f"size={len(self.D)}, act={self.act!r}" + (f", scale={scale}" if scale != "1" else "")


class InBlock(Adapter):
    """An adapter with a network A at one place of a block; `layer` tells the width where `base` has no weight."""

    skipped = False  # AdapterDrop

    def __init__(self, base: nn.Module, make: Callable[[nn.Module], nn.Module], layer: nn.Module | None = None):
        super().__init__(base)
        self.A = make(plain(base if layer is None else layer))

    def forward(self, *args, **kwargs):
        return self.base(*args, **kwargs) if self.skipped else self.adapted(*args, **kwargs)

    def extra_repr(self) -> str:
        return self.A.extra_repr()


def sum_of(module: nn.Module, y: object) -> Tensor:
    """y, where it is one tensor. TypeError for a block that returns several things: what to add to is not known."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{type(module).__name__} returns a {type(y).__name__}, not one tensor: give other places=")
    return y
