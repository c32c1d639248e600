"""UniPELT: let gates decide which method a layer uses.  Mao et al. 2022, arXiv:2110.07577, section 3.

    y = W x + b + g B A x             on query and value;       g = mean over tokens of σ(w_g · x + b_g)
    y = LN(u + g A(h)),  h = LN(u)    at the end of the block;  g = mean over tokens of σ(w_g · h + b_g)

One g for each row of a batch and site, made from what the site reads (padding included). In LoRA the gate stands where
alpha / r would. B = 0 and A(h) small: nearly as the base. The paper's third part, a gated prefix, is left out here.
Trains a bottleneck's 2 d size + size + d, or LoRA's r (d_in + d_out), and for each gate its inputs + 1 numbers. Does
not merge: the gate depends on the text.

    model = inject(model, unipelt(model))
"""

import re

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_weight, up, weight_of
from ...targets import Targets
from ..card import Card
from ..lowrank.lora import LoRA
from .bottleneck import Bottleneck, width
from .pfeiffer import at_end
from .places import Places, blocks

CARD = Card(
    name="UniPELT",
    paper="Mao et al.",
    year=2022,
    source="arXiv:2110.07577 §3",
    category="hybrid",
    attaches="Linear and Conv1D (LoRA), and blocks of BERT, GPT-2, Llama, T5 (places.py)",
    count="rank * (d_in + d_out) + d_in + 1 if rank else 2 * size * d_out + size + 2 * d_out + 1",
    merges=False,
)


class Gate(nn.Module):
    """g: (rows, 1, 1) of x: (rows, tokens, d)."""

    def __init__(self, layer: nn.Module, d: int):
        super().__init__()
        self.w = nn.init.normal_(new_weight(layer, 1, d), std=0.02)
        self.b = new_weight(layer, 1)

    def forward(self, x: Shaped[Tensor, "rows tokens d"]) -> Float[Tensor, "rows 1 1"]:
        return torch.sigmoid(F.linear(x.to(self.w.dtype), self.w, self.b)).mean(1, keepdim=True)


class GatedBottleneck(Bottleneck):
    """g A(h)."""

    def __init__(self, layer: nn.Module, size: int, act: str = "relu", std: float = 0.02):
        super().__init__(layer, size, act, std)
        self.gate = Gate(layer, width(layer))

    def forward(self, h: Shaped[Tensor, "rows tokens d"]) -> Float[Tensor, "rows tokens d"]:
        return self.gate(h) * super().forward(h)


class GatedLoRA(LoRA):
    """`base` (Linear or Conv1D) plus g B A x."""

    def __init__(self, base: nn.Module, rank: int = 8, dropout: float = 0.0):
        if isinstance(base, nn.Embedding | nn.Conv2d):
            raise TypeError("UniPELT's gate reads a sequence of vectors: target linear layers")
        super().__init__(base, rank, alpha=rank, dropout=dropout)
        self.gate = Gate(base, weight_of(base).shape[1])

    def forward(self, x: Shaped[Tensor, "rows tokens d_in"]) -> Shaped[Tensor, "rows tokens d_out"]:
        y = self.base(x)
        return y + (self.gate(x) * up(self.base, down(self.base, self.dropout(x), self.A), self.B)).to(y.dtype)

    def merged(self) -> nn.Module:
        raise NotImplementedError("UniPELT's gate depends on the text: it cannot be merged")


def unipelt(model: nn.Module, size: int = 48, rank: int = 8, places: Places | None = None) -> Targets:
    """What `inject(model, ...)` needs. `places`: for architectures that places.py does not know."""
    found = blocks(model, places)
    lora = tuple(re.escape(block.site(part)) for block in found for part in block.places.query_value)
    return at_end(found, lambda layer: GatedBottleneck(layer, size)) | {lora: lambda base: GatedLoRA(base, rank)}
