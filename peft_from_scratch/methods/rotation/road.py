"""RoAd: rotate and stretch pairs of output features.  Liao and Monz 2024, arXiv:2409.00119.

    y = R (W x + b)        R: blocks  ( α_1 cos θ_1   -α_1 sin θ_1 )   on the features (j, j + g/2) of each group of g
                                      ( α_2 sin θ_2    α_2 cos θ_2 )

RoAd_1: θ_1 = θ_2 and α_1 = α_2, RoAd_2: they differ, RoAd_4: each of the four entries has its own θ and α. θ = 0 and α
= 1: starts as the base. Merges, into the bias too, since R turns all that the layer gives. Only element-wise work: a
batch can hold a different R for every row.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: variant * d_out. Merges: yes. peft: ROAD.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight, weight_of, with_weight

OWN = {1: (1, 1), 2: (1, 2), 4: (2, 2)}  # variant -> how many of (cos and sin, first and second half) are own


class RoAd(Adapter):
    """`base` with what it gives rotated; `variant` is 1, 2 or 4, `group_size` the g of the pairing."""

    def __init__(self, base: nn.Module, variant: int = 1, group_size: int = 64):
        super().__init__(base)
        d_out = weight_of(base).shape[0]
        if variant not in OWN:
            raise ValueError(f"variant must be 1, 2 or 4, not {variant}")
        together = d_out // getattr(base, "groups", 1)  # a rotation across a convolution's groups would not be one
        if group_size < 2 or group_size % 2 or together % group_size:
            fits = [g for g in range(2, together + 1, 2) if together % g == 0]
            raise ValueError(f"group_size={group_size} must be even and divide the {together} outputs: {fits} would")
        self.variant, self.group_size = variant, group_size
        shape = (d_out // group_size, *OWN[variant], group_size // 2)
        self.theta, self.alpha = new_weight(base, *shape), nn.Parameter(torch.ones_like(new_weight(base, *shape)))

    def rotate(self, y: Float[Tensor, "*n d_out"]) -> Float[Tensor, "*n d_out"]:
        """R y, features last: the first and the second half of a group are rotated against each other."""
        c, s = (self.alpha * self.theta.cos())[:, 0], (self.alpha * self.theta.sin())[:, -1]
        c, s = c.expand(-1, 2, -1).flatten(), torch.cat((-s[:, :1], s[:, -1:]), 1).flatten()  # a number a feature
        y = y.to(c.dtype)
        return c * y + s * y.unflatten(-1, (-1, 2, self.group_size // 2)).flip(-2).flatten(-3)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        if isinstance(self.base, nn.Conv2d):  # its features are the channels
            return self.rotate(y.movedim(-3, -1)).movedim(-1, -3).to(y.dtype)
        return self.rotate(y).to(y.dtype)

    def merged(self) -> nn.Module:
        new = with_weight(self.base, self.rotate(weight_of(self.base).T).T)
        if getattr(new, "bias", None) is not None:
            new.bias = nn.Parameter(self.rotate(new.bias).detach().to(new.bias.dtype), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return f"variant={self.variant}, group_size={self.group_size}"
