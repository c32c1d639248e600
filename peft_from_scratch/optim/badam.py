"""BAdam: Adam on one block after the other.  Luo et al. 2024, arXiv:2404.02827, section 2.

    for block i in an order:   K Adam steps on θ_i from M = V = 0, all else frozen

Block coordinate descent, each block's problem solved by K steps of Adam. Adam's states exist for one block; they are
thrown away when it is left, for they would be out of date on its next turn. Trains everything in as many turns as there
are blocks; what no block holds (a head, say, if the pattern leaves it out) trains all the time.

    full(model);  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    badam = BAdam(model, r"model\\.layers\\.\\d+|model\\.embed_tokens|lm_head", optimizer, every=50)
    for batch in batches: loss.backward(); optimizer.step(); optimizer.zero_grad(); badam.step()
    badam.finish()
"""

import torch
from torch import nn
from torch.optim import Optimizer

from ..methods.card import Card
from .blocks import blocks_of, wake

CARD = Card(
    name="BAdam",
    paper="Luo et al.",
    year=2024,
    source="arXiv:2404.02827 §2",
    category="memory",
    attaches="the blocks of a model",
    count="everything",
    merges=True,
)
ORDERS = ("random", "ascending", "descending")


class BAdam:
    """Says which block trains; every block has its turn before one has its second."""

    def __init__(
        self,
        model: nn.Module,
        pattern: str,
        optimizer: Optimizer,
        every: int = 50,
        order: str = "random",
        seed: int = 0,
    ):
        if order not in ORDERS or every < 1:
            raise ValueError(f"order must be one of {ORDERS} and every at least 1, not {order!r} and {every}")
        self.blocks, self.optimizer = blocks_of(model, rf"(?:{pattern})"), optimizer
        self.every, self.order, self.steps = every, order, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.ahead: list[int] = []
        self._next()

    def step(self) -> None:
        """Call after each optimiser step."""
        self.steps += 1
        if self.steps % self.every == 0:
            self._next()

    def _next(self) -> None:
        n = len(self.blocks)
        if not self.ahead:
            orders = {"ascending": range(n), "descending": range(n - 1, -1, -1)}
            self.ahead = list(orders.get(self.order) or torch.randperm(n, generator=self.generator).tolist())
        self.active = self.ahead.pop(0)
        wake(self.blocks, [self.active], self.optimizer)
        for p in self.blocks[self.active]:  # two turns in a row, where a new round begins with the block just left
            self.optimizer.state.pop(p, None)

    def finish(self) -> None:
        """Wake all blocks: `adapter_state` and `describe` know a model that is tuned in place by what trains."""
        wake(self.blocks, range(len(self.blocks)), self.optimizer)
