"""One training step that leaves no trace, for the meters that need one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..training.running import device_of, mode


@contextmanager
def traceless(model: nn.Module) -> Iterator[None]:
    """Train mode inside; afterwards the modes, gradients and random state are what they were."""
    gradients = {p: p.grad for p in model.parameters()}
    device = device_of(model)
    with mode(model, True), torch.random.fork_rng([device] if device.type == "cuda" else []):
        for p in gradients:
            p.grad = None
        try:
            yield
        finally:
            for p, gradient in gradients.items():
                p.grad = gradient
