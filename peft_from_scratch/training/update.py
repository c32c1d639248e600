"""One step of the optimiser: gradients checked, clipped and applied, in 32 or 16 bit."""

import math
import warnings

import torch
from torch import Tensor, nn

NO_GRADIENT = (
    "Frozen embeddings before gradient checkpointing of the re-entrant kind cut the graph: checkpoint with "
    "use_reentrant=False, or call model.enable_input_require_grads(). A forward under torch.no_grad() or a .detach() "
    "cuts it as well"
)


class TrainingDiverged(RuntimeError):
    """The loss or its gradient stopped being a number. The weights are those before the step that failed."""


def update(
    loss: Tensor, step: int, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
    parameters: dict[str, nn.Parameter], clip: float | None, check: bool,
) -> float:  # fmt: skip
    """One optimiser step on `loss`; returns the gradient norm. Nothing is changed if loss or gradient is not finite."""
    rate = optimizer.param_groups[0]["lr"]
    if not math.isfinite(loss.item()):
        raise _diverged("loss", loss.item(), step, rate)
    if not loss.requires_grad:
        raise ValueError(f"the loss depends on no trained parameter, so nothing can be learned. {NO_GRADIENT}")
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    if check:
        _check_gradients(parameters)
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters.values(), clip or math.inf).item()
    if not math.isfinite(norm) and scaler.get_scale() <= 1:  # above 1 the scaler skips the step and halves its scale
        raise _diverged("gradient norm", norm, step, rate)
    scaler.step(optimizer)
    scaler.update()
    return norm


def _diverged(what: str, value: float, step: int, rate: float) -> TrainingDiverged:
    return TrainingDiverged(
        f"the {what} is {value} at step {step + 1} (learning rate {rate:.2g}): training has diverged. The weights are "
        "those before this step, and a checkpoint is the last one saved. Load the model anew and train with a third of "
        "the learning rate or a longer warmup (in another checkpoint folder); with fp16, also try amp='off'"
    )


def _check_gradients(parameters: dict[str, nn.Parameter]) -> None:
    """After the first backward pass: an error if nothing got a gradient, a warning if only a part did."""
    without = [name for name, p in parameters.items() if p.grad is None]
    if len(without) == len(parameters):
        raise ValueError(f"none of the {len(parameters)} trained parameters received a gradient. {NO_GRADIENT}")
    if without:
        warnings.warn(
            f"{len(without)} of {len(parameters)} trained parameters received no gradient and will not move: "
            f"{', '.join(without[:4])}{', ...' if len(without) > 4 else ''}. Harmless if the loss does not use them. "
            f"If it should: {NO_GRADIENT[0].lower()}{NO_GRADIENT[1:]}",
            stacklevel=4,
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
