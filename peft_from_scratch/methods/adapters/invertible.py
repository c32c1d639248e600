"""Invertible adapters: adapt the embeddings to a language, and undo it before the output.  Pfeiffer et al. 2020
(MAD-X), arXiv:2005.00052, section 4.2.

    e = [e1; e2]:   o1 = e1 + F(e2),   o2 = e2 + G(o1),   A(e) = [o1; o2]         after the embeddings
    o = [o1; o2]:   e2 = o2 - G(o1),   e1 = o1 - F(e2),   A⁻¹(o) = [e1; e2]       before the tied output matrix

F, G: bottlenecks from d/2 to d/2 through `size` numbers (d/4), φ = ReLU, started small: nearly as the base.
One A serves both ends; a model without a language-model head has only the first, and the `adapters` library has the
second in heads of its own only. Trains 2 (d size + size) + d numbers in all. Language adapters are these with
`pfeiffer` on the blocks:

    model = inject(model, invertible(model) | pfeiffer(model))

Kind: additive: adapter. On: embeddings and output matrix of BERT, GPT-2, Llama, T5 (places.py). Trains: 2 * (d_out *
size + size) + d_out. Merges: no.
"""

import re

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter, plain
from ...adapter import sites as named
from ...layers import new_weight
from ...targets import Targets
from .bottleneck import Bottleneck, width
from .places import Places, blocks, places_of


class Coupling(nn.Module):
    """A and its inverse, for `d` features (by default those of the layer's output)."""

    def __init__(self, layer: nn.Module, size: int | None = None, act: str = "relu", std: float = 0.02):
        super().__init__()
        d = width(layer)
        if d % 2:
            raise ValueError(f"a coupling halves its input, and {d} features have no halves")
        half = _Width(new_weight(layer, d // 2))
        self.F, self.G = (Bottleneck(half, d // 4 if size is None else size, act, std) for _ in range(2))

    def forward(self, e: Shaped[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        e1, e2 = e.to(self.F.D.dtype).chunk(2, -1)
        o1 = e1 + self.F(e2)
        return torch.cat([o1, e2 + self.G(o1)], -1)

    def inverse(self, o: Shaped[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        o1, o2 = o.to(self.F.D.dtype).chunk(2, -1)
        e2 = o2 - self.G(o1)
        return torch.cat([o1 - self.F(e2), e2], -1)

    def extra_repr(self) -> str:
        return f"coupling: {self.F.extra_repr()}"


class _Width(nn.Module):
    """Stands for a layer of half the width: what a bottleneck asks of one is its weight."""

    def __init__(self, weight: nn.Parameter):
        super().__init__()
        self.weight = weight


class Invertible(Adapter):
    """A(e) in place of e, the output of `base`."""

    def __init__(self, base: nn.Module, coupling: Coupling):
        super().__init__(base)
        self.coupling = coupling

    def forward(self, *args, **kwargs):
        e = self.base(*args, **kwargs)
        return self.coupling(e).to(e.dtype)

    def extra_repr(self) -> str:
        return self.coupling.extra_repr()


class Inverse(Invertible):
    """`base` reads A⁻¹(o) in place of o."""

    def forward(self, o: Shaped[Tensor, "*batch d"]) -> Shaped[Tensor, "*batch n"]:
        return self.base(self.coupling.inverse(o).to(o.dtype))


def invertible(
    model: nn.Module,
    size: int | None = None,
    act: str = "relu",
    std: float = 0.02,
    output: bool = True,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs; without `output` nothing is undone before the head, as in the library."""
    coupling = Coupling(blocks(model, places)[0].norm, size, act, std)
    ends: Targets = {
        "|".join(dict.fromkeys(p.embeddings for p in places_of(model, places))): lambda base: Invertible(base, coupling)
    }
    head = getattr(plain(model), "get_output_embeddings", lambda: None)() if output else None
    for name, module in named(model):
        if head is not None and plain(module) is plain(head):
            return ends | {re.escape(name): lambda base: Inverse(base, coupling)}
    return ends
