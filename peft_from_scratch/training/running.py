"""What every run of a model needs: its mode, its device, its inputs, its loss."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
LossFn = Callable[[nn.Module, Batch], Tensor]


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Run in train or eval mode, then give every module back the mode it had (they need not agree)."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lives."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def inputs(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A copy of `batch` on `device`, without "index" (the item's place in its dataset), which no model takes."""
    return {k: v.to(device, non_blocking=True) for k, v in batch.items() if k != "index"}


def model_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss that a transformers model computes itself; the batch must hold "labels"."""
    if "labels" not in batch:
        raise ValueError(f"the batch has no 'labels', only {sorted(batch)}: add them, or pass a loss_fn(model, batch)")
    loss = model(**batch).loss
    if loss is None:
        raise ValueError("the model returned no loss: load it with a task head, or pass a loss_fn(model, batch)")
    return loss
