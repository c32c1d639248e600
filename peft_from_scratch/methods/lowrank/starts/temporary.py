"""With-blocks that change a model and put it back: hooks, eval mode, which parameters train."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def hooked(layers: list[nn.Module], hook: Callable) -> Iterator[None]:
    """Run `hook(layer, inputs)` before each layer, inside the with-block only."""
    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the with-block; each module as it was afterwards."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def only_these_train(model: nn.Module, weights: list[nn.Parameter]) -> Iterator[None]:
    """requires_grad for `weights` alone inside the with-block, so that nothing else is kept for backward."""
    before = {p: p.requires_grad for p in model.parameters()}
    model.requires_grad_(False)
    for p in weights:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p, wanted in before.items():
            p.requires_grad_(wanted)
