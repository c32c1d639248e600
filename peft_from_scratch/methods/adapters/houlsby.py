"""Houlsby adapters: a bottleneck after the attention and after the feed-forward layer.
Houlsby et al. 2019, arXiv:1902.00751, section 2.1.

    y = LN(f + A(f) + x)        f: what the sub-layer adds to its input x;  A(f) = U φ(D f + b_D) + b_U

D: (size, d) and U: (d, size) start as normals of deviation 0.01, cut at two: nearly, not exactly, as the base. The
norms train too (`norms`), as in the paper. φ is the released code's GELU; the `adapters` library has swish, no norms.
Does not merge: φ lies between D and U.

    model = inject(model, houlsby(model, size=64))

Kind: additive: adapter. On: blocks of BERT, GPT-2, Llama, T5 (places.py): both sub-layers. Trains: 2 * size * d_out +
size + d_out. Merges: no.
"""

import re

from torch import nn

from ...adapter import Replaced
from ...targets import Targets
from .bottleneck import Bottleneck, InBlock, sum_of
from .places import Places, blocks, targets


class Serial(InBlock):
    """f + A(f) in place of f, the output of `base`."""

    def adapted(self, *args, **kwargs):
        f = sum_of(self.base, self.base(*args, **kwargs))
        return f + self.A(f).to(f.dtype)


def houlsby(
    model: nn.Module,
    size: int = 64,
    act: str = "gelu",
    std: float = 0.01,
    norms: bool = True,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs. `places`: for architectures that places.py does not know."""

    def make(layer: nn.Module) -> nn.Module:
        return Bottleneck(layer, size, act, std)

    found = blocks(model, places)
    chosen = targets(found, "attention", Serial, make) | targets(found, "feed_forward", Serial, make)
    if norms:
        chosen |= {re.escape(block.site(norm)): Replaced for block in found for norm in block.places.norms}
    return chosen
