"""Blocks that take turns: only some train at a time, and only these have gradients and optimiser states."""

import re
from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from ..adapt import trained


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
