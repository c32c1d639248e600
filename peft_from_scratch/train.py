"""The training loop, in one piece: batches in, a better model and its history out."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from .adapt import trained
from .training.checkpoint import Checkpoint, CheckpointError, fingerprint
from .training.progressbar import Progress
from .training.running import Batch, LossFn, device_of, inputs, mode, model_loss
from .training.scoring import Evaluation, evaluate, lm_loss
from .training.update import TrainingDiverged, precision, update

__all__ = ["CheckpointError", "Evaluation", "History", "TrainingDiverged", "evaluate", "fit", "lm_loss", "schedule"]

Batches = Sequence[Batch] | Callable[[int], Sequence[Batch]]


@dataclass
class History:
    """One entry a step: training loss, learning rate, gradient norm before clipping. And seconds, over all sittings."""

    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.loss)

    def add(self, loss: float, lr: float, grad_norm: float, seconds: float) -> None:
        self.loss.append(loss)
        self.lr.append(lr)
        self.grad_norm.append(grad_norm)
        self.seconds = seconds


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    lr: float,
    epochs: int = 1,
    warmup: float = 0.06,
    weight_decay: float = 0.0,
    clip: float | None = 1.0,
    seed: int = 0,
    device: str | torch.device | None = None,
    amp: str = "auto",
    checkpoint: str | os.PathLike | None = None,
    every: int = 50,
    on_step: Callable[[int, float], object] | None = None,
    loss_fn: LossFn = model_loss,
    progress: bool = True,
    label: str = "",
) -> History:
    """Train what trains in `model` with AdamW, a linear warm-up and a linear decay to 0.

    `batches`: a list of dicts of tensors, or a function epoch -> list for a new order in each epoch (made from the
    epoch's number, so that it can be repeated). `warmup`: share of all steps. `clip`: largest gradient norm, or None.
    `weight_decay` is 0: it pulls adapters towards zero, which for some (an orthogonal LoReFT) is fatal in one step.
    `amp`: "off", "bf16", "fp16"; "auto" is bf16 on a GPU that has it, fp16 on another, off elsewhere.
    `seed` seeds dropout; the caller's random state is left alone. `device` moves the model there first.
    `on_step(step, loss)` is called after each step, counted from 1. `loss_fn(model, batch)`: what to minimise.

    Frozen is not eval: the model trains in train mode, so dropout is on in frozen layers too; afterwards each module
    is back in the mode it was in.

    `checkpoint`: a folder where, every `every` steps and at the end, all is kept that the run needs to go on. The
    same call goes on from there, on a CPU bit for bit as if it had not stopped; a complete run returns at once.

    ValueError for bad arguments and where nothing trains; TrainingDiverged; CheckpointError for a checkpoint that
    cannot be written or read, or that is another run's.
    """
    _check_arguments(lr, epochs, warmup, every, device)
    model.to(device or device_of(model))
    device, parameters = device_of(model), trained(model)
    batches_of = batches if callable(batches) else lambda epoch: batches
    first = list(batches_of(0))
    if not parameters or not first:
        raise ValueError(
            "there are no batches" if parameters else "nothing trains: call inject(...) or full(...) first"
        )
    total = epochs * len(first)
    optimizer = torch.optim.AdamW(parameters.values(), lr, weight_decay=weight_decay, fused=_can_fuse(parameters))
    autocast, scaler = precision(amp, device, parameters)
    settings = dict(lr=lr, epochs=epochs, warmup=warmup, weight_decay=weight_decay, clip=clip, seed=seed, amp=amp)
    settings |= {"steps": total} | fingerprint(model, first[0])
    kept = Checkpoint(checkpoint, model, optimizer, scaler, settings) if checkpoint is not None else None

    with torch.random.fork_rng([device] if device.type == "cuda" else []), mode(model, True):
        torch.manual_seed(seed)
        history = History(**((kept.load() if kept else None) or {}))
        begin, clock = history.steps, time.monotonic() - history.seconds
        with Progress(total, begin, label, progress) as bar:
            for step in range(begin, total):
                epoch, place = divmod(step, len(first))
                if place == 0 or step == begin:
                    order = _same_length(list(batches_of(epoch)), first, epoch)
                optimizer.param_groups[0]["lr"] = rate = lr * schedule(step, total, warmup)
                with autocast:
                    loss = loss_fn(model, inputs(order[place], device))
                norm = update(loss, step, optimizer, scaler, parameters, clip, check=step == begin)
                history.add(loss.item(), rate, norm, time.monotonic() - clock)
                if kept and ((step + 1) % every == 0 or step + 1 == total):
                    kept.save(asdict(history))
                bar.update(step + 1, loss=f"{history.loss[-1]:.4f}", lr=f"{rate:.1e}")
                if on_step:
                    on_step(step + 1, history.loss[-1])
    return history


def schedule(step: int, total: int, warmup: float) -> float:
    """The factor on the learning rate at `step` (from 0) of `total`: up to 1 during `warmup`, then down to 0."""
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising  # the first step is not wasted on a rate of 0
    return (total - step) / (total - rising)


def _can_fuse(parameters: dict[str, nn.Parameter]) -> bool:
    """AdamW in one kernel, where it exists for these tensors."""
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps", "xpu") for p in parameters.values())


def _same_length(order: list[Batch], first: list[Batch], epoch: int) -> list[Batch]:
    if len(order) != len(first):
        raise ValueError(
            f"epoch {epoch} has {len(order)} batches, epoch 0 had {len(first)}: all epochs must have as many"
        )
    return order


def _check_arguments(lr: float, epochs: int, warmup: float, every: int, device: str | torch.device | None) -> None:
    if device and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is {device}, but torch finds no usable GPU here: leave device out to train on the CPU"
        )
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr is {lr}: it must be above 0")
    if epochs < 1 or every < 1:
        raise ValueError(f"epochs={epochs} and every={every} must both be at least 1")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is {warmup}: it is a share of all steps, from 0 to 1")
