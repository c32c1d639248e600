"""Bytes of a training step: what is always there (static), and what the forward pass keeps for the backward pass."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ..training.running import Batch, device_of, inputs, model_loss
from .step import traceless

# Tensors the optimiser keeps for each trained parameter: of its shape, and single float32 step counters.
OPTIMIZERS = {"sgd": (0, 0), "momentum": (1, 0), "adamw": (2, 1)}


class StaticBytes(NamedTuple):
    """Bytes that a training run holds from its first step to its last."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        return sum(self)


def static_bytes(model: nn.Module, optimizer: str = "adamw") -> StaticBytes:
    """Weights (buffers too), gradients and optimiser state; in float32 with Adam 4 P + 12 T bytes (P all, T trained).

    `optimizer`: "adamw", "momentum" (SGD with it) or "sgd".
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}: choose one of {sorted(OPTIMIZERS)}")
    copies, counters = OPTIMIZERS[optimizer]
    training = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(p.nbytes for p in training)
    weights = sum(t.nbytes for t in chain(model.parameters(), model.buffers()))
    return StaticBytes(weights, gradients, copies * gradients + 4 * counters * len(training))


def saved_bytes(model: nn.Module, batch: Batch) -> int:
    """Bytes that one forward pass in train mode keeps for the backward pass, the same on every device.

    Each storage counts once and whole, since a saved view keeps all of it alive; parameters and buffers do not count,
    since they are there anyway. Not seen: what a custom autograd function stores on its `ctx` by hand.
    """
    with traceless(model), saving(model) as saved:
        loss = model_loss(model, inputs(batch, device_of(model)))
    del loss  # held until here: it keeps what was saved alive, so no address is met twice
    return sum(saved.values())


@contextmanager
def saving(model: nn.Module) -> Iterator[dict[tuple[torch.device, int], int]]:
    """Afterwards: the storages, with their bytes, that operations inside saved for their backward pass."""
    resident = set(_storages(chain(model.parameters(), model.buffers())))
    saved: dict[tuple[torch.device, int], int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved.update((storage, size) for storage, size in _storages([tensor]).items() if storage not in resident)
        return tensor.detach()  # the tensor itself may hold the graph that holds it: never freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def peak_allocated(fn: Callable[[], object]) -> int | None:
    """Bytes allocated on the current CUDA device at the highest point of `fn()`; None without CUDA.

    Everything alive counts, also what was there before the call; what the allocator merely reserves does not.
    """
    if not torch.cuda.is_available():
        fn()
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    fn()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def allocated_peak(fn: Callable[[], object], device: torch.device) -> int:
    """Bytes that `fn()` takes from the allocator of `device` beyond what was taken before, at its highest point.

    On a CPU from the allocator's own record of every block taken and given back.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        return peak_allocated(fn) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints two lines whenever it runs
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        fn()
    blocks = [event.nbytes() for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(blocks, initial=0))


def _storages(tensors: Iterable[Tensor]) -> dict[tuple[torch.device, int], int]:
    """The memory under `tensors`: address -> bytes. On the meta device, where nothing has an address, its handle."""
    storages = [(t.device, t.untyped_storage()) for t in tensors]
    return {(d, s._cdata if d.type == "meta" else s.data_ptr()): s.nbytes() for d, s in storages}
