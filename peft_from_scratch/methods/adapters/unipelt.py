"""UniPELT: let gates decide which method a layer uses.  Mao et al. 2022, arXiv:2110.07577, section 3.

    K ← [g P_K; K],  V ← [g P_V; V]   on the attention;         g = mean over tokens of σ(w_g · x + b_g)
    y = W x + b + g B A x             on query and value;       g likewise, its own
    y = LN(u + g A(h)),  h = LN(u)    at the end of the block;  g = mean over tokens of σ(w_g · h + b_g)

One g for each row of a batch and site, made from what the site reads (padding included). In LoRA the gate stands where
alpha / r would. B = 0, A(h) and P small: nearly as the base. The prefix is prefix tuning's, in the cache: its g comes
from a text's first input and stays for what is generated; an encoder beside a decoder (T5) keeps no cache, and has no
prefix. Beside the sites' numbers below it trains the prefix and, for each layer that has it, d + 1 numbers of the gate.
Does not merge: the gate depends on the text.

    model = inject(model, unipelt(model))

Kind: hybrid. On: Linear and Conv1D (LoRA), and blocks of BERT, GPT-2, Llama, T5 (places.py). Trains: rank * (d_in +
d_out) + d_in + 1 if rank else 2 * size * d_out + size + 2 * d_out + 1. Merges: no.
"""

import re
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of
from ...targets import Targets
from ..lowrank.lora import LoRA
from ..prompts.prefix_tuning import prefix_tuning
from .bottleneck import Bottleneck, width
from .layer_prefix import attentions, prefix_in
from .pfeiffer import at_end
from .places import Block, Places, blocks


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


class GatedPrefix(Adapter):
    """The attention `base`, which reads g times the n_tokens columns that the prefix has put into the cache."""

    def __init__(self, base: nn.Module, n_tokens: int, layer: nn.Module):
        super().__init__(base)
        self.n_tokens, self.gate = n_tokens, Gate(layer, width(layer))

    def forward(self, hidden_states: Shaped[Tensor, "rows tokens d"], *args: Any, **told: Any) -> tuple:
        kept = prefix_in(told.get("past_key_values"), self.base)
        if kept.get_seq_length() == self.n_tokens:  # the text's first input: nothing but the prefix is there yet
            g = self.gate(hidden_states)[..., None].to(kept.keys.dtype)
            kept.keys, kept.values = g * kept.keys, g * kept.values
        return self.base(hidden_states, *args, **told)


def unipelt(
    model: nn.Module,
    size: int = 48,
    rank: int = 8,
    n_tokens: int = 10,
    hidden: int | None = None,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs. `n_tokens` and `hidden` as in prefix_tuning; n_tokens=0: without the prefix.
    `places`: for architectures that places.py does not know."""
    found = blocks(model, places)
    lora = tuple(re.escape(block.site(part)) for block in found for part in block.places.query_value)
    others = at_end(found, lambda layer: GatedBottleneck(layer, size)) | {lora: lambda base: GatedLoRA(base, rank)}
    return others | (gated_prefix(model, found, n_tokens, hidden) if n_tokens else {})


def gated_prefix(model: nn.Module, found: list[Block], n_tokens: int, hidden: int | None = None) -> Targets:
    """Prefix tuning, and a gate on each attention that reads the cache."""
    gates = {
        re.escape(site): partial(GatedPrefix, n_tokens=n_tokens, layer=block.norm)
        for site, block in attentions(model, found).items()
    }
    return prefix_tuning(model, n_tokens, hidden) | gates
