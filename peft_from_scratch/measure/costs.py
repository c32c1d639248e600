"""What a training step costs: predicted on the meta device, without weights or data, and measured on a real one.

The two share as little as they can. Parameters, FLOPs and what is saved for the backward pass are counted over the same
code, once without numbers, once with them. The peak is added up from the tensors' sizes on one side, and read from the
allocator on the other; the optimiser's bytes from its rule and from its state; the file's from its format and from
the disk.
"""

from typing import NamedTuple

import torch
from torch import nn

from ..training.optimizers import Factory, adamw
from ..training.running import Batch, device_of, inputs, model_loss
from .alive import Alive
from .disk import adapter_bytes, predicted_bytes
from .flops import counting, step_flops
from .memory import allocated_peak, saved_bytes, saving, static_bytes
from .meta import as_on
from .params import count
from .step import traceless


class Cost(NamedTuple):
    """Numbers, FLOPs of a step, bytes. `peak` is the most that is ever alive in a step, and is made of

    weights + optimiser state, which are always there, the batch, what is saved for the backward pass, and at the
    fullest moment `temporary` more: gradients, made while what was saved is freed, and intermediate results.
    """

    total: int
    trained: int
    saved: int
    forward: int
    step: int
    weights: int
    gradients: int
    optimizer: int
    batch: int
    activations: int
    peak: int
    file: int

    @property
    def temporary(self) -> int:
        return self.peak - self.weights - self.optimizer - self.batch - self.activations


def predicted(model: nn.Module, batch: Batch, device: str = "cpu", optimizer: Factory | None = None) -> Cost:
    """The cost of a step of `model` and `batch`, both on the meta device, as `device` ("cpu" or "cuda") would run it.

    `optimizer`: what `fit` takes; None is AdamW in one kernel, whose state is two copies and whose step needs no room.
    """
    if device_of(model).type != "meta":
        raise ValueError('the model has real weights: build it under `with torch.device("meta")`, or use `measured`')
    static = static_bytes(model)
    state, made = static.optimizer, optimizer and optimizer(model, 1e-6)
    with as_on(device):
        with traceless(model), counting() as counter:
            with saving(model) as saved:
                loss = model_loss(model, batch)
            flops = [counter.get_total_flops()]
            loss.backward()
            flops.append(counter.get_total_flops())
        with traceless(model):
            if made:
                _train(model, batch, made)  # the first step makes the optimiser's state
                state = _state_bytes(made)
                made.zero_grad()
            with Alive() as alive:  # without the counter, which keeps gradients longer than a step does
                _train(model, batch, made)
    kept, working = sum(saved.values()), max(alive.peak, static.gradients)
    return _cost(model, batch, flops, static.weights, static.gradients, state, kept, working, predicted_bytes(model))


def measured(model: nn.Module, batch: Batch, optimizer: Factory | None = None) -> Cost:
    """The same of a real model, from two real steps; its weights move by them."""
    flops = [step_flops(model, batch, backward) for backward in (False, True)]
    kept = saved_bytes(model, batch)
    batch = inputs(batch, device_of(model))
    with traceless(model):
        made = (optimizer or adamw(0.0))(model, 1e-6)
        _train(model, batch, made)  # the first step makes the optimiser's state
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        state = _state_bytes(made)
        made.zero_grad()
        working = allocated_peak(lambda: _train(model, batch, made), device_of(model))
    weights = sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    return _cost(model, batch, flops, weights, gradients, state, kept, working, adapter_bytes(model))


def _cost(model, batch, flops, weights, gradients, state, kept, working, file) -> Cost:
    numbers, own = count(model), sum(t.nbytes for t in batch.values())
    peak = weights + state + own + working
    return Cost(*numbers, *flops, weights, gradients, state, own, kept, peak, file)


def _train(model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer | None) -> None:
    model_loss(model, batch).backward()
    if optimizer:
        optimizer.step()


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(t.nbytes for own in optimizer.state.values() for t in own.values() if torch.is_tensor(t))
