"""BEFT: train one bias term, of the value projection, say.  arXiv:2509.15974.

    y = W x + b + β        β: (d_out), also where the layer has no b

β = 0: starts as the base. Merges into b; a layer without b has no place for β.

Paper: see the source 2025, arXiv:2509.15974. Kind: selective. On: Linear, Conv1D, Conv2d, LayerNorm. Trains: d_out.
Merges: yes. peft: BEFT.
"""

import copy

from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import is_4bit, new_weight, weight_of


class BEFT(Adapter):
    """`base` with a vector added to what it gives."""

    def __init__(self, base: nn.Module):
        super().__init__(base)
        if isinstance(base, nn.Embedding):
            raise ValueError("an embedding has no bias: train single rows of it with TrainableTokens")
        norm = base.weight.dim() == 1 and not is_4bit(base)  # it has one number an output
        self.beta = new_weight(base, len(base.weight if norm else weight_of(base)))

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
