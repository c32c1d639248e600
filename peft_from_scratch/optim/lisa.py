r"""LISA: all of the model, a few random layers at a time.  Pan et al. 2024, arXiv:2403.17919, section 3.

    every K steps: draw γ of the L blocks; they train, with embeddings and head; the others are frozen

The weights that LoRA moves most are those of the first and the last layer. LISA imitates that: both always train, and
each of the others with probability γ / L. Gradients and Adam's states exist for γ blocks at a time; a block that wakes
again starts with fresh states, which is what keeps memory small. Trains everything, over time.

    full(model);  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    lisa = LISA(model, r"model\.layers\.\d+", optimizer, active=2, every=20)
    for batch in batches: loss.backward(); lisa.step(); lisa.zero_grad()
    lisa.finish()                # all train again, so that a save has them all

Kind: memory. On: the blocks of a model. Trains: everything. Merges: yes.
"""

from torch import nn
from torch.optim import Optimizer

from .blocks import Turns, blocks_of, shuffled


class LISA(Turns):
    """An optimiser that steps as `optimizer` does and says which blocks train; `pattern`: see blocks.blocks_of."""

    def __init__(
        self, model: nn.Module, pattern: str, optimizer: Optimizer, active: int = 2, every: int = 20, seed: int = 0
    ):
        blocks = blocks_of(model, pattern)
        if not 1 <= active <= len(blocks) or every < 1:
            raise ValueError(f"active must be 1 to {len(blocks)} and every at least 1, not {active} and {every}")
        self.active, self.seed = active, seed
        super().__init__(blocks, optimizer, every, active=active, seed=seed)

    def drawn(self, turn: int) -> list[int]:
        return sorted(shuffled(len(self.blocks), self.seed, turn)[: self.active])
