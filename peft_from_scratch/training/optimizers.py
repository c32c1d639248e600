"""The optimiser of a run: AdamW, or what a function (model, lr) makes; its learning rates, and what it cannot do.

fit(..., optimizer=lora_plus)                                                # the pages of optim/ have examples
fit(..., optimizer=lambda model, lr: GaLore(groups(model, rank=8), lr))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from ..adapt import trained
from ..optim.blocks import Turns
from ..optim.in_backward import InBackward
from ..optim.one_each import OneEach

Factory = Callable[[nn.Module, float], Optimizer]
EXAMPLE = "lambda model, lr: torch.optim.SGD(trained(model).values(), lr)"


def adamw(weight_decay: float) -> Factory:
    """AdamW over all that trains, in one kernel where it exists for these tensors."""

    def make(model: nn.Module, lr: float) -> Optimizer:
        parameters = list(trained(model).values())
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps", "xpu") for p in parameters)
        return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, fused=fused)

    return make


def make(factory: Factory, model: nn.Module, lr: float, accumulate: int, fp16: bool) -> Optimizer:
    """The factory's optimiser. ValueError where it makes none, or one that steps too early for what is asked."""
    if isinstance(factory, type) or not callable(factory):
        raise ValueError(f"optimizer must be a function (model, lr) -> torch optimiser, such as {EXAMPLE}")
    optimizer = factory(model, lr)
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"the optimizer function returned {type(optimizer).__name__}, not a torch optimiser")
    if isinstance(optimizer, InBackward) and (accumulate > 1 or fp16):
        optimizer.finish()
        clash = f"accumulate={accumulate}" if accumulate > 1 else "amp='fp16'"
        cure = "larger batches" if accumulate > 1 else "amp='off' or 'bf16'"
        raise ValueError(
            f"{clash} needs all gradients before a step, and this optimiser updates each weight within the backward "
            f"pass and frees its gradient: use {cure}, or the same optimiser without InBackward"
        )
    return optimizer


@contextmanager
def finishing(optimizer: Optimizer) -> Iterator[None]:
    """Afterwards, whatever happens, undo what it did to the model beyond the weights: hooks, blocks asleep."""
    try:
        yield
    finally:
        getattr(optimizer, "finish", lambda: None)()


def description(optimizer: Optimizer, lr: float) -> str:
    """Its kind and settings, to tell one run from another; rates as multiples of `lr`."""
    kind = type(optimizer).__name__
    if isinstance(optimizer, Turns):
        return f"{kind}({_listed(optimizer.settings)}) of {description(optimizer.optimizer, lr)}"
    if isinstance(optimizer, OneEach):
        inner = dict.fromkeys(description(one, lr) for one in optimizer.optimizers.values())
        return f"{kind} of {'; '.join(inner)}"
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    groups = [_listed(g | {"lr": f"{g['lr'] / lr:.6g} x"}) for g in groups]
    return f"{kind}({'; '.join(dict.fromkeys(groups))})"


def _listed(settings: dict) -> str:
    return ", ".join(f"{k}={v}" for k, v in settings.items())
