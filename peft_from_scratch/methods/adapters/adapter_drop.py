"""AdapterDrop: leave the adapters out of the first blocks.  Rücklé et al. 2021, arXiv:2010.11918, sections 3 and 4.

    y = LN(f + x) in blocks 0 ... n-1,  with adapters from block n on

What is below the first adapter is the plain base: one pass through it serves every task, and nothing there is kept for
the backward pass. "Specialised": n is fixed in training, `adapter_drop(model, n)`. "Robust": a new n from 0 to `most`
for each batch, so that n may be chosen later: RobustDrop(model, most).step() before each.
Trains what the kept adapters train. In an encoder and a decoder, the first n blocks of each.

Kind: additive: adapter. On: a model with bottleneck adapters. Trains: 2 * size * d_out + size + d_out. Merges: no.
"""

import random

from torch import nn

from ...adapt import adapters
from .bottleneck import InBlock
from .places import Places, blocks


def adapter_drop(model: nn.Module, n: int, places: Places | None = None) -> nn.Module:
    """Skip the adapters of the first n blocks from now on, and use the others. Their weights stay; 0 takes it back.

    ValueError for more blocks than there are, and for a model without bottleneck adapters.
    """
    found = blocks(model, places)
    last = max(block.number for block in found) + 1
    if not 0 <= n <= last:
        raise ValueError(f"adapters can be dropped from 0 to {last} blocks of this model, not from {n}")
    inside = [(block, a) for site, a in adapters(model) for block in found if f"{site}.".startswith(f"{block.name}.")]
    dropped = [(block, a) for block, a in inside if isinstance(a, InBlock)]
    if not dropped:
        raise ValueError("no block has a bottleneck adapter to drop: inject houlsby(model) or another first")
    for block, adapter in dropped:
        adapter.skipped = block.number < n
    return model


class RobustDrop:
    """A new number of dropped blocks for each batch: `step()` draws it, uniformly from 0 to `most`."""

    def __init__(self, model: nn.Module, most: int, seed: int = 0, places: Places | None = None):
        self.model, self.most, self.places, self.random = model, most, places, random.Random(seed)
        adapter_drop(model, most, places)  # so that a wrong `most` is told at once
        adapter_drop(model, 0, places)

    def step(self) -> int:
        """Drop from as many blocks as are drawn; returns the number."""
        n = self.random.randint(0, self.most)
        adapter_drop(self.model, n, self.places)
        return n
