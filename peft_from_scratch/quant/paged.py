"""Optimiser states that wait in CPU memory: "paged optimizers".  Dettmers et al. 2023, arXiv:2305.14314, section 3.

The paper leaves the paging to CUDA's unified memory, which moves states to the CPU when the GPU is full. Here it is
written out, for any device: every parameter has an optimiser of its own; its states come to it for its step, and leave.
The device then holds the states of one parameter at a time, not 8 bytes for every number that Adam trains; the price is
that they travel twice a step. Adapters have few states: it pays where much trains, or where batches differ in length
and a long one must find room.

Method: Paged optimizer states. Paper: Dettmers et al. 2023, arXiv:2305.14314 §3. Kind: memory. On: any optimiser.
Trains: everything. Merges: yes.
"""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from ..optim.one_each import OneEach


class Paged(OneEach):
    """`Paged(parameters, torch.optim.AdamW, lr=1e-3)`: the same steps, with the states at `home` in between."""

    def __init__(
        self,
        parameters: Iterable,
        make: Callable[..., Optimizer] = torch.optim.AdamW,
        home: str = "cpu",
        **settings,
    ):
        self.home = torch.device(home)
        super().__init__(parameters, lambda group: make(group, **settings))

    def step(self) -> None:
        for p, optimizer in self.optimizers.items():
            if p.grad is not None:
                move(optimizer.state[p], p.device)
                optimizer.step()
                move(optimizer.state[p], self.home)

    def load_one(self, p: nn.Parameter, state_dict: dict) -> None:
        super().load_one(p, state_dict)
        move(self.optimizers[p].state[p], self.home)


def move(state: dict, device: torch.device) -> None:
    """The state's tensors to `device`; step counters stay where the optimiser keeps them."""
    for key, t in state.items():
        if torch.is_tensor(t) and t.dim():
            state[key] = t.to(device)
