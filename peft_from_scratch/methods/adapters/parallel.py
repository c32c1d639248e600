"""Parallel adapters: a bottleneck beside the feed-forward layer, not after it.  He et al. 2021, arXiv:2110.04366,
sections 3.3 and 4.6.

    f = FFN(x) + s A(x)        A(x) = U φ(D x + b_D) + b_U,  φ = ReLU;  x: what the feed-forward layer reads

s = 4 (scaled parallel), 1 (parallel), or learned from 1. U = 0: starts as the base.
Trains size (d_in + d_out) + size + d_out numbers a block, and 1 more where s is learned. Does not merge.
In BERT x is also the residual, so that LN(f + x) takes s A(x) with it: exact without touching the layers.
In a pre-norm block x is the normed input, where FFN stands; the `adapters` library reads the residual there instead.

    model = inject(model, parallel(model, size=512))
"""

from jaxtyping import Shaped
from torch import Tensor, nn

from ...layers import is_linear, weight_of
from ...targets import Targets
from ..card import Card
from .bottleneck import Bottleneck, InBlock
from .places import Places, blocks, targets

FACTS = dict(
    paper="He et al.",
    year=2021,
    category="additive: adapter",
    attaches="blocks of BERT, GPT-2, Llama, T5 (places.py): beside the feed-forward layer",
    merges=False,
)
CARDS = [
    Card(
        name="Parallel adapters",
        source="arXiv:2110.04366 §3.3",
        count="size * (d_in + d_out) + size + d_out",
        **FACTS,
    ),
    Card(
        name="Scaled parallel adapters",
        source="arXiv:2110.04366 §4.6",
        count="size * (d_in + d_out) + size + d_out + (scale == 'learned')",
        **FACTS,
    ),
]


class Beside(InBlock):
    """base(x) + s A(x)."""

    def adapted(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        y = self.base(x)
        return y + self.A(x).to(y.dtype)


class BesideResidual(InBlock):
    """base(h, x + s A(x)), where `base` (BERT's output layer) computes LN(W h + b + x)."""

    def adapted(self, h: Shaped[Tensor, "*batch d_inner"], x: Shaped[Tensor, "*batch d"]) -> Shaped[Tensor, "*batch d"]:
        return self.base(h, x + self.A(x).to(x.dtype))


def inputs(layer: nn.Module) -> int | None:
    """How many numbers a single matrix reads; None for a norm, which puts out as many as it reads."""
    return weight_of(layer).shape[1] if is_linear(layer) else None


def parallel(
    model: nn.Module,
    size: int = 512,
    scale: float | str = 4.0,
    act: str = "relu",
    std: float | None = None,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs. `places`: for architectures that places.py does not know."""

    def make(layer: nn.Module) -> nn.Module:
        return Bottleneck(layer, size, act, std, scale, inputs(layer))

    found = blocks(model, places)
    post = [b for b in found if b.places.post_norm]
    pre = [b for b in found if not b.places.post_norm]
    return targets(post, "beside", BesideResidual, make) | targets(pre, "beside", Beside, make)
