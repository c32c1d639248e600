"""One step of the optimiser: gradients checked, clipped and applied, in 32 or 16 bit."""

import math
import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..optim.in_backward import InBackward
from .running import Batch, LossFn, device_of, inputs

NO_GRADIENT = (
    "Frozen embeddings before gradient checkpointing of the re-entrant kind cut the graph: checkpoint with "
    "use_reentrant=False, or call model.enable_input_require_grads(). A forward under torch.no_grad() or a .detach() "
    "cuts it as well"
)
BEFORE = "those before this step"
SPOILT = "spoilt: they were updated within the backward pass, which clip=1.0 would have prevented"


class TrainingDiverged(RuntimeError):
    """The loss or its gradient stopped being a number. The weights are those before the step that failed,
    but for an optimiser that updates within the backward pass without clipping: the message says so."""


class Update:
    """One optimiser step on the mean loss of a few batches: everything that it needs, and how it is done."""

    def __init__(
        self, model: nn.Module, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer,
        loss_fn: LossFn, precision: tuple[torch.autocast, torch.amp.GradScaler], clip: float | None,
    ):  # fmt: skip
        self.model, self.parameters, self.optimizer, self.loss_fn = model, parameters, optimizer, loss_fn
        (self.autocast, self.scaler), self.clip = precision, clip
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, batches: Sequence[Batch], factor: float, step: int, check: bool) -> tuple[float, float]:
        """Returns the mean loss and the gradient norm. Nothing is changed if one of them is not finite.

        `factor` is that of the schedule: rates that differ by group (LoRA+) keep their ratio.
        """
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad()
        mean = 0.0
        for batch in batches:
            loss = self._loss(batch, step)
            mean += loss.item() / len(batches)
            if isinstance(self.optimizer, InBackward):
                return mean, self._in_backward(loss, step, check)
            self.scaler.scale(loss / len(batches)).backward()
        return mean, self._step(step, check)

    def _loss(self, batch: Batch, step: int) -> Tensor:
        with self.autocast:
            loss = self.loss_fn(self.model, inputs(batch, device_of(self.model)))
        if not math.isfinite(loss.item()):
            raise self._diverged("loss", loss.item(), step)
        if not loss.requires_grad:
            raise ValueError(f"the loss depends on no trained parameter, so nothing can be learned. {NO_GRADIENT}")
        return loss

    def _step(self, step: int, check: bool) -> float:
        if check:
            _check_gradients(self.parameters, [p for p in self.parameters.values() if p.grad is not None])
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.clip or math.inf).item()
        if not math.isfinite(norm) and self.scaler.get_scale() <= 1:  # above 1 the scaler skips the step and halves it
            raise self._diverged("gradient norm", norm, step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def _in_backward(self, loss: Tensor, step: int, check: bool) -> float:
        norm = self.optimizer.step(loss, self.clip or None).item()
        if check:
            _check_gradients(self.parameters, self.optimizer.squares)
        if not math.isfinite(norm):
            raise self._diverged("gradient norm", norm, step, BEFORE if self.clip else SPOILT)
        return norm

    def _diverged(self, what: str, value: float, step: int, weights: str = BEFORE) -> TrainingDiverged:
        rate = self.optimizer.param_groups[0]["lr"]
        return TrainingDiverged(
            f"the {what} is {value} at step {step + 1} (learning rate {rate:.2g}): training has diverged. The weights "
            f"are {weights}, and a checkpoint is the last one saved. Load the model anew and train with a third of "
            "the learning rate or a longer warmup (in another checkpoint folder); with fp16, also try amp='off'"
        )


def _check_gradients(parameters: dict[str, nn.Parameter], with_gradient: Iterable[nn.Parameter]) -> None:
    """After the first backward pass: an error if nothing got a gradient, a warning if only a part did."""
    got = set(with_gradient)
    parameters = {name: p for name, p in parameters.items() if p.requires_grad}  # not those asleep (LISA)
    without = [name for name, p in parameters.items() if p not in got]
    if len(without) == len(parameters):
        raise ValueError(f"none of the {len(parameters)} trained parameters received a gradient. {NO_GRADIENT}")
    if without:
        warnings.warn(
            f"{len(without)} of {len(parameters)} trained parameters received no gradient and will not move: "
            f"{', '.join(without[:4])}{', ...' if len(without) > 4 else ''}. Harmless if the loss does not use them. "
            f"If it should: {NO_GRADIENT[0].lower()}{NO_GRADIENT[1:]}",
            stacklevel=5,
        )


def precision(
    amp: str, device: torch.device, parameters: dict[str, nn.Parameter]
) -> tuple[torch.autocast, torch.amp.GradScaler]:
    """Autocast, and a scaler that keeps small gradients above fp16's smallest number; both do nothing when off."""
    if amp not in ("auto", "off", "bf16", "fp16"):
        raise ValueError(f"amp is {amp!r}: choose 'auto', 'off', 'bf16' or 'fp16'")
    if amp == "auto" and device.type == "cuda":
        amp = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"  # a T4 only emulates bf16
    if amp == "fp16" and any(p.dtype == torch.float16 for p in parameters.values()):
        raise ValueError("the trained parameters are float16, too coarse for small steps: load the model in float32")
    dtype = torch.float16 if amp == "fp16" else torch.bfloat16
    autocast = torch.autocast(device.type, dtype, enabled=amp in ("bf16", "fp16"))
    return autocast, torch.amp.GradScaler(device.type, enabled=amp == "fp16")
