"""How far a merged model's answers are from the adapted model's."""

from typing import NamedTuple

import torch
from torch import nn

from ..training.running import Batch, device_of, inputs, mode


class MergeError(NamedTuple):
    """Largest difference of two models' logits, and the same over the largest logit."""

    absolute: float
    relative: float


def merge_error(model: nn.Module, merged: nn.Module, batch: Batch) -> MergeError:
    """Compare the logits of `model` and `merged` in eval mode (dropout would differ by design).

    Merging is exact on paper and rounds in floating point: expect 1e-16 relative in float64, 1e-7 in float32,
    1e-3 in the 16-bit formats.
    """
    a, b = _logits(model, batch), _logits(merged, batch)
    difference = (a - b).abs().max().item()
    return MergeError(difference, difference / a.abs().max().clamp_min(1e-30).item())


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    batch = {k: v for k, v in inputs(batch, device_of(model)).items() if k != "labels"}
    with mode(model, False), torch.inference_mode():
        return model(**batch).logits.double().cpu()
