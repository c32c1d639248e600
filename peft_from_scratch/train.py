"""The training loop, in one piece: batches in, a better model and its history out."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import nn

from .adapt import trained
from .training import optimizers
from .training.checkpoint import Checkpoint, CheckpointError, fingerprint
from .training.history import History
from .training.progressbar import Progress
from .training.running import Batch, LossFn, device_of, mode, model_loss
from .training.scoring import Evaluation, evaluate, lm_loss
from .training.update import TrainingDiverged, Update, precision

__all__ = ["CheckpointError", "Evaluation", "History", "TrainingDiverged", "evaluate", "fit", "lm_loss", "schedule"]

Batches = Sequence[Batch] | Callable[[int], Sequence[Batch]]


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    lr: float,
    epochs: int = 1,
    warmup: float = 0.06,
    weight_decay: float = 0.0,
    optimizer: optimizers.Factory | None = None,
    accumulate: int = 1,
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
    """Train what trains in `model`, with a linear warm-up and a linear decay to 0.

    `batches`: a list of dicts of tensors, or a function epoch -> list for a new order in each epoch (made from the
    epoch's number, so that it can be repeated). `warmup`: share of all steps. `clip`: largest gradient norm, or None.
    `weight_decay` is 0: it pulls adapters towards zero, which for some (an orthogonal LoReFT) is fatal in one step.
    `optimizer`: a function (model, lr) -> torch optimiser, see training/optimizers.py; otherwise AdamW.
    `accumulate`: so many batches make one step, by the mean of their gradients (the last of an epoch may be fewer).
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
    _check_arguments(lr, epochs, warmup, every, accumulate, device)
    if optimizer and weight_decay:
        raise ValueError("weight_decay is AdamW's here: give it to the optimizer that you pass")
    model.to(device or device_of(model))
    device, parameters = device_of(model), trained(model)
    batches_of = batches if callable(batches) else lambda epoch: batches
    first = list(batches_of(0))
    if not parameters or not first:
        raise ValueError(
            "there are no batches" if parameters else "nothing trains: call inject(...) or full(...) first"
        )
    per_epoch = math.ceil(len(first) / accumulate)
    total = epochs * per_epoch
    settings = dict(lr=lr, epochs=epochs, warmup=warmup, weight_decay=weight_decay, clip=clip, seed=seed, amp=amp)
    settings |= {"accumulate": accumulate, "steps": total} | fingerprint(model, first[0])
    autocast, scaler = precision(amp, device, parameters)
    made = optimizers.make(optimizer or optimizers.adamw(weight_decay), model, lr, accumulate, scaler.is_enabled())
    settings["optimizer"] = optimizers.description(made, lr)
    update = Update(model, parameters, made, loss_fn, (autocast, scaler), clip)
    kept = Checkpoint(checkpoint, model, parameters, made, scaler, settings) if checkpoint is not None else None

    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda), mode(model, True), optimizers.finishing(made):
        torch.manual_seed(seed)
        history = History(**((kept.load() if kept else None) or {}))
        begin, clock = history.steps, time.monotonic() - history.seconds
        with Progress(total, begin, label, progress) as bar:
            for step in range(begin, total):
                epoch, place = divmod(step, per_epoch)
                if place == 0 or step == begin:
                    order = _same_length(list(batches_of(epoch)), first, epoch)
                factor = schedule(step, total, warmup)
                some = order[place * accumulate :][:accumulate]
                loss, norm = update(some, factor, step, check=step == begin)
                history.add(loss, lr * factor, norm, time.monotonic() - clock)
                if kept and ((step + 1) % every == 0 or step + 1 == total):
                    kept.save(asdict(history))
                bar.update(step + 1, loss=f"{loss:.4f}", lr=f"{lr * factor:.1e}")
                if on_step:
                    on_step(step + 1, loss)
    return history


def schedule(step: int, total: int, warmup: float) -> float:
    """The factor on the learning rate at `step` (from 0) of `total`: up to 1 during `warmup`, then down to 0."""
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising  # the first step is not wasted on a rate of 0
    return (total - step) / (total - rising)


def _same_length(order: list[Batch], first: list[Batch], epoch: int) -> list[Batch]:
    if len(order) != len(first):
        raise ValueError(
            f"epoch {epoch} has {len(order)} batches, epoch 0 had {len(first)}: all epochs must have as many"
        )
    return order


def _check_arguments(
    lr: float, epochs: int, warmup: float, every: int, accumulate: int, device: str | torch.device | None
) -> None:
    if device and torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device is {device}, but torch finds no usable GPU here: leave device out to train on the CPU"
        )
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(f"lr is {lr}: it must be above 0")
    if epochs < 1 or every < 1 or accumulate < 1:
        raise ValueError(f"epochs={epochs}, every={every} and accumulate={accumulate} must all be at least 1")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is {warmup}: it is a share of all steps, from 0 to 1")
