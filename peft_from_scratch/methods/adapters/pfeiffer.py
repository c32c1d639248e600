"""Pfeiffer adapters: one bottleneck a block, after the feed-forward layer.  Pfeiffer et al. 2020, arXiv:2005.00247,
appendix A; "AdapterHub" arXiv:2007.07779.

    y = LN(u + A(LN(u)))        u = f + x: what the feed-forward layer has added to its input;  A as Houlsby's, φ = ReLU
    y = u + A(u)                in a block that has its norms before the sub-layers (GPT-2, Llama, T5)

A reads the normed sum, and the same LN norms again. D and U start as normals of deviation 0.02: nearly as the base.
In GPT-2 and Llama the whole block is wrapped: their recorded `hidden_states` hold the blocks' outputs with A.

    model = inject(model, pfeiffer(model, size=48))

Kind: additive: adapter. On: blocks of BERT, GPT-2, Llama, T5 (places.py): their end. Trains: 2 * size * d_out + size +
d_out. Merges: no.
"""

from collections.abc import Callable

from jaxtyping import Shaped
from torch import Tensor, nn

from ...targets import Targets
from .bottleneck import Bottleneck, InBlock
from .houlsby import Serial
from .places import Block, Places, blocks, targets


class AroundNorm(InBlock):
    """LN(u + A(LN(u))) in place of LN(u), where `base` is the norm."""

    def adapted(self, u: Shaped[Tensor, "*batch d"]) -> Shaped[Tensor, "*batch d"]:
        return self.base(u + self.A(self.base(u)).to(u.dtype))


def at_end(found: list[Block], make: Callable[[nn.Module], nn.Module]) -> Targets:
    """`make`'s network at the end of each block, by whichever of the two equations its norms ask for."""
    post = [b for b in found if b.places.post_norm]
    pre = [b for b in found if not b.places.post_norm]
    return targets(post, "end", AroundNorm, make) | targets(pre, "end", Serial, make)


def pfeiffer(
    model: nn.Module, size: int = 48, act: str = "relu", std: float = 0.02, places: Places | None = None
) -> Targets:
    """What `inject(model, ...)` needs. `places`: for architectures that places.py does not know."""
    return at_end(blocks(model, places), lambda layer: Bottleneck(layer, size, act, std))
