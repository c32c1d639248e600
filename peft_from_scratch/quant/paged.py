"""Optimiser states that wait in CPU memory: "paged optimizers".  Dettmers et al. 2023, arXiv:2305.14314, section 3.

The paper leaves the paging to CUDA's unified memory, which moves states to the CPU when the GPU is full. Here it is
written out, for any device: every parameter has an optimiser of its own; its states come to it for its step, and leave.
The device then holds the states of one parameter at a time, not 8 bytes for every number that Adam trains; the price is
that they travel twice a step. Adapters have few states: it pays where much trains, or where batches differ in length
and a long one must find room.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn


class Paged:
    """`Paged(parameters, torch.optim.AdamW, lr=1e-3)`: the same steps, with the states at `home` in between.

    Not for optimisers that look at several parameters at once (a norm over all gradients, say).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
        home: str = "cpu",
        **settings,
    ):
        self.home = torch.device(home)
        self.optimizers = [make([p], **settings) for p in parameters]
        if not self.optimizers:
            raise ValueError("there are no parameters to optimise: does anything train?")

    def __iter__(self) -> Iterator[tuple[nn.Parameter, torch.optim.Optimizer]]:
        for optimizer in self.optimizers:
            yield optimizer.param_groups[0]["params"][0], optimizer

    def step(self) -> None:
        for p, optimizer in self:
            if p.grad is not None:
                move(optimizer.state[p], p.device)
                optimizer.step()
                move(optimizer.state[p], self.home)

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    @property
    def param_groups(self) -> list[dict]:
        """All groups, to read or to set a learning rate."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def state_dict(self) -> list[dict]:
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict]) -> None:
        """What `state_dict` gave. ValueError where the number of parameters is another."""
        if len(states) != len(self.optimizers):
            raise ValueError(f"these are states of {len(states)} parameters, and {len(self.optimizers)} train here")
        for (p, optimizer), state in zip(self, states, strict=True):
            optimizer.load_state_dict(state)
            move(optimizer.state[p], self.home)


def move(state: dict, device: torch.device) -> None:
    """The state's tensors to `device`; step counters stay where the optimiser keeps them."""
    for key, t in state.items():
        if torch.is_tensor(t) and t.dim():
            state[key] = t.to(device)
