"""Blocks that take turns: only some train at a time, and only these have gradients and optimiser states."""

import re
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from ..adapt import trained


class Turns(Optimizer):
    """`optimizer`, with some of the blocks awake for `every` steps, then others; a subclass says which, in `drawn`.

    The number of steps alone decides who is awake, so that a stopped run goes on with the same blocks.
    """

    def __init__(self, blocks: list[list[nn.Parameter]], optimizer: Optimizer, every: int, **settings):
        self.blocks, self.optimizer, self.every = blocks, optimizer, every
        self.settings = {"every": every, **settings}
        self.go_to(0)

    def drawn(self, turn: int) -> list[int]:
        """Which blocks train in this turn, counted from 0."""
        raise NotImplementedError

    def go_to(self, steps: int) -> None:
        """Wake the blocks of the turn that this step is in."""
        self.steps, self.awake = steps, self.drawn(steps // self.every)
        wake(self.blocks, self.awake, self.optimizer)

    def step(self) -> None:
        self.optimizer.step()
        self.steps += 1
        if self.steps % self.every == 0:
            self.go_to(self.steps)

    def finish(self) -> None:
        """Wake all blocks: `adapter_state` and `describe` know a model that is tuned in place by what trains."""
        wake(self.blocks, range(len(self.blocks)), self.optimizer)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self) -> list[dict]:
        return self.optimizer.param_groups

    @property
    def state(self) -> dict:
        return self.optimizer.state

    def state_dict(self) -> dict:
        return self.optimizer.state_dict() | {"steps": self.steps}

    def load_state_dict(self, state_dict: dict) -> None:
        self.go_to(state_dict["steps"])
        self.optimizer.load_state_dict({k: v for k, v in state_dict.items() if k != "steps"})


def shuffled(n: int, seed: int, turn: int) -> list[int]:
    """0 to n - 1 in an order that seed and turn decide, the same on every machine."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(1000003 * seed + turn)).tolist()


def blocks_of(model: nn.Module, pattern: str) -> list[list[nn.Parameter]]:
    """What trains in each block. The blocks are the different matches of `pattern` at the start of parameter names:
    r"model\\.layers\\.\\d+" finds all layers of a Llama. ValueError where nothing matches."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, p in trained(model).items():
        if match := re.match(rf"{pattern}(?=\.)", name):
            found.setdefault(match[0], []).append(p)
    if not found:
        names = ", ".join(list(trained(model))[:3]) or "none; call full(model) first"
        raise ValueError(f"the pattern {pattern!r} starts no name of what trains ({names})")
    return list(found.values())


def wake(blocks: list[list[nn.Parameter]], awake: Iterable[int], optimizer: Optimizer | None) -> None:
    """Let these blocks train and the others sleep: without gradients, and without states, which may be outdated."""
    awake = set(awake)
    for i, block in enumerate(blocks):
        for p in block:
            p.requires_grad_(i in awake)
            if i not in awake:
                p.grad = None
                if optimizer is not None:
                    optimizer.state.pop(p, None)
