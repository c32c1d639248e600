r"""BAdam: Adam on one block after the other.  Luo et al. 2024, arXiv:2404.02827, section 2.

    for block i in an order:   K Adam steps on θ_i from M = V = 0, all else frozen

Block coordinate descent, each block's problem solved by K steps of Adam. Adam's states exist for one block; they are
thrown away when it is left, for they would be out of date on its next turn. Trains everything in as many turns as there
are blocks; what no block holds (a head, say, if the pattern leaves it out) trains all the time.

    full(model);  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    badam = BAdam(model, r"model\.layers\.\d+|model\.embed_tokens|lm_head", optimizer, every=50)
    for batch in batches: loss.backward(); badam.step(); badam.zero_grad()
    badam.finish()

Kind: memory. On: the blocks of a model. Trains: everything. Merges: yes.
"""

from torch import nn
from torch.optim import Optimizer

from .blocks import Turns, blocks_of, shuffled

ORDERS = ("random", "ascending", "descending")


class BAdam(Turns):
    """An optimiser that steps as `optimizer` does and says which block trains; each has a turn before one has two."""

    def __init__(
        self, model: nn.Module, pattern: str, optimizer: Optimizer, every: int = 50, order: str = "random", seed=0
    ):
        if order not in ORDERS or every < 1:
            raise ValueError(f"order must be one of {ORDERS} and every at least 1, not {order!r} and {every}")
        self.order, self.seed = order, seed
        super().__init__(blocks_of(model, rf"(?:{pattern})"), optimizer, every, order=order, seed=seed)

    def drawn(self, turn: int) -> list[int]:
        n = len(self.blocks)
        orders = {"ascending": range(n), "descending": range(n - 1, -1, -1)}
        order = orders.get(self.order) or shuffled(n, self.seed, turn // n)
        return [order[turn % n]]

    def go_to(self, steps: int) -> None:
        super().go_to(steps)
        for p in self.blocks[self.awake[0]]:  # awake before too, where a round begins with the block just left
            self.optimizer.state.pop(p, None)
