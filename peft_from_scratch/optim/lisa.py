"""LISA: all of the model, a few random layers at a time.  Pan et al. 2024, arXiv:2403.17919, section 3.

    every K steps: draw γ of the L blocks; they train, with embeddings and head; the others are frozen

The weights that LoRA moves most are those of the first and the last layer. LISA imitates that: both always train, and
each of the others with probability γ / L. Gradients and Adam's states exist for γ blocks at a time; a block that wakes
again starts with fresh states, which is what keeps memory small. Trains everything, over time.

    full(model);  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    lisa = LISA(model, r"model\\.layers\\.\\d+", optimizer, active=2, every=20)
    for batch in batches: loss.backward(); optimizer.step(); optimizer.zero_grad(); lisa.step()
    lisa.finish()                # all train again, so that a save has them all
"""

import torch
from torch import nn
from torch.optim import Optimizer

from ..methods.card import Card
from .blocks import blocks_of, wake

CARD = Card(
    name="LISA",
    paper="Pan et al.",
    year=2024,
    source="arXiv:2403.17919 §3",
    category="memory",
    attaches="the blocks of a model",
    count="everything",
    merges=True,
)


class LISA:
    """Says which blocks train; `pattern`: see blocks.blocks_of."""

    def __init__(
        self, model: nn.Module, pattern: str, optimizer: Optimizer, active: int = 2, every: int = 20, seed: int = 0
    ):
        self.blocks, self.optimizer = blocks_of(model, pattern), optimizer
        if not 1 <= active <= len(self.blocks) or every < 1:
            raise ValueError(f"active must be 1 to {len(self.blocks)} and every at least 1, not {active} and {every}")
        self.active, self.every, self.steps = active, every, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.awake: list[int] = []
        self._draw()

    def step(self) -> None:
        """Call after each optimiser step."""
        self.steps += 1
        if self.steps % self.every == 0:
            self._draw()

    def _draw(self) -> None:
        self.awake = sorted(torch.randperm(len(self.blocks), generator=self.generator)[: self.active].tolist())
        wake(self.blocks, self.awake, self.optimizer)

    def finish(self) -> None:
        """Wake all blocks: `adapter_state` and `describe` know a model that is tuned in place by what trains."""
        wake(self.blocks, range(len(self.blocks)), self.optimizer)
