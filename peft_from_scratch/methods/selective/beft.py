"""BEFT: train one bias term, of the value projection, say.  arXiv:2509.15974.

    y = W x + b + β        β: (d_out), also where the layer has no b

β = 0: starts as the base. Trains d_out numbers a layer. Merges into b; a layer without b has no place for β.
"""

import copy

from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight, weight_of
from ..card import Card

CARD = Card(
    name="BEFT",
    paper="see the source",
    year=2025,
    source="arXiv:2509.15974",
    category="selective",
    attaches="Linear, Conv1D, Conv2d, LayerNorm",
    count="d_out",
    merges=True,
    peft="BEFT",
)


class BEFT(Adapter):
    """`base` with a vector added to what it gives."""

    def __init__(self, base: nn.Module):
        super().__init__(base)
        if isinstance(base, nn.Embedding):
            raise ValueError("an embedding has no bias: train single rows of it with TrainableTokens")
        W = base.weight if base.weight.dim() == 1 else weight_of(base)  # a norm has one number an output
        self.beta = new_weight(base, len(W))

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        beta = self.beta[:, None, None] if isinstance(self.base, nn.Conv2d) else self.beta
        return (y + beta).to(y.dtype)

    def merged(self) -> nn.Module:
        if getattr(self.base, "bias", None) is None:
            raise NotImplementedError("BEFT cannot be merged into a layer without a bias: there is no place for β")
        new = copy.deepcopy(self.base)
        new.bias = nn.Parameter((self.base.bias + self.beta).detach().to(new.bias.dtype), requires_grad=False)
        return new
