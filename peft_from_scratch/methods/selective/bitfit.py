"""BitFit: train the biases and nothing else.  Ben Zaken et al. 2021, arXiv:2106.10199, section 3.

    y = W x + b        W frozen, b trained: d_out numbers a layer (and the offset of every norm)

Starts as the base: b is a copy of its bias. Merges, by keeping the trained b. A layer without a bias has nothing to
train, and a Llama has none at all.

Kind: selective. On: any layer with a bias. Trains: d_out. Merges: yes. peft: bias='all'.
"""

import copy
import re

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapt import inject
from ...adapter import Adapter, Replaced, outside, sites


class BitFit(Adapter):
    """Any module with a bias of its own (Linear, LayerNorm, Conv1D, Conv2d), with that bias trained."""

    def __init__(self, base: nn.Module):
        super().__init__(base)
        if getattr(base, "bias", None) is None:
            raise ValueError(f"this {type(base).__name__} has no bias, so BitFit has nothing to train in it")
        self.b = nn.Parameter(base.bias.detach().clone())

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        return torch.func.functional_call(self.base, {"bias": self.b}, (x,))

    def merged(self) -> nn.Module:
        new = copy.deepcopy(self.base)
        new.bias = nn.Parameter(self.b.detach().clone(), requires_grad=False)
        return new


def bitfit(model: nn.Module, head: str | None = None) -> nn.Module:
    """Train every bias of `model`, and in full the modules that the pattern `head` names (a new classifier, say)."""
    biased = [name for name, m in sites(model) if isinstance(getattr(m, "bias", None), nn.Parameter)]
    chosen = tuple(map(re.escape, outside(biased, head)))
    if not chosen:
        raise ValueError("this model has no biases, so BitFit has nothing to train in it (a Llama has none)")
    return inject(model, {chosen: BitFit} | ({head: Replaced} if head else {}))
