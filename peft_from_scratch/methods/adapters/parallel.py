"""Parallel adapters: a bottleneck beside the feed-forward layer, not after it.  He et al. 2021, arXiv:2110.04366,
sections 3.3 and 4.6.

    f = FFN(x) + s A(x)        A(x) = U φ(D x + b_D) + b_U,  φ = ReLU;  x: what the feed-forward layer reads

s = 4 (scaled parallel), 1 (parallel), or learned from 1. U = 0: starts as the base. In BERT x is also the residual, so
that LN(f + x) takes s A(x) with it: exact without touching the layers. In a pre-norm block x is the normed input, where
FFN stands; the `adapters` library reads the residual there instead.

    model = inject(model, parallel(model, size=512))

Method: Parallel adapters. Paper: He et al. 2021, arXiv:2110.04366 §3.3. Kind: additive: adapter. On: blocks of BERT,
GPT-2, Llama, T5 (places.py): beside the feed-forward layer. Trains: size * (d_in + d_out) + size + d_out. Merges: no.

Method: Scaled parallel adapters. Paper: He et al. 2021, arXiv:2110.04366 §4.6. Kind: additive: adapter. On: blocks of
BERT, GPT-2, Llama, T5 (places.py): beside the feed-forward layer. Trains: size * (d_in + d_out) + size + d_out + (scale
== 'learned'). Merges: no.
"""

from jaxtyping import Shaped
from torch import Tensor, nn

from ...layers import is_linear, weight_of
from ...targets import Targets
from .bottleneck import Bottleneck, InBlock
from .places import Places, blocks, targets


class Beside(InBlock):
    """base(x) + s A(x)."""

    def adapted(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        y = self.base(x)
        return y + self.A(x).to(y.dtype)


class BesideResidual(InBlock):
    """base(h, x + s A(x)), where `base` (BERT's output layer) computes LN(W h + b + x)."""

    def adapted(self, h: Shaped[Tensor, "*batch d_inner"], x: Shaped[Tensor, "*batch d"]) -> Shaped[Tensor, "*batch d"]:
        return self.base(h, x + self.A(x).to(x.dtype))


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
        d_in = weight_of(layer).shape[1] if is_linear(layer) else None  # a norm puts out as many as it reads
        return Bottleneck(layer, size, act, std, scale, d_in)

    found = blocks(model, places)
    post, pre = ([b for b in found if b.places.post_norm is after] for after in (True, False))
    return targets(post, "beside", BesideResidual, make) | targets(pre, "beside", Beside, make)
