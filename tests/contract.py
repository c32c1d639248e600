"""The table behind the contract: one line a method. A cell that does not apply carries its reason."""

from dataclasses import dataclass, field

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from peft_from_scratch import BitFit, LoRA, Replaced


def linear():
    return nn.Linear(10, 6)


def conv1d():
    return Conv1D(6, 10)


def embedding():
    return nn.Embedding(11, 6)


def conv2d():
    return nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), padding_mode="reflect")


def grouped():
    return nn.Conv2d(4, 6, 3, groups=2)


def norm():
    return nn.LayerNorm(10)


KINDS = {
    "Linear": linear,
    "Conv1D": conv1d,
    "Embedding": embedding,
    "Conv2d": conv2d,
    "Conv2d(groups)": grouped,
    "LayerNorm": norm,
}
# Not square, three-dimensional where the layer allows it.
INPUTS = {
    "Linear": lambda g: torch.randn(2, 5, 10, generator=g),
    "Conv1D": lambda g: torch.randn(2, 5, 10, generator=g),
    "Embedding": lambda g: torch.randint(0, 11, (2, 5), generator=g),
    "Conv2d": lambda g: torch.randn(2, 4, 9, 8, generator=g),
    "Conv2d(groups)": lambda g: torch.randn(2, 4, 9, 8, generator=g),
    "LayerNorm": lambda g: torch.randn(2, 5, 10, generator=g),
}
SHAPES = {
    "Linear": (6, 10),
    "Conv1D": (6, 10),
    "Embedding": (6, 11),
    "Conv2d": (6, 4 * 6),
    "Conv2d(groups)": (6, 2 * 9),
    "LayerNorm": (10, 1),
}


@dataclass
class Row:
    factory: object
    count: object  # (d_out, d_in, layer) -> numbers trained
    merges: bool = True
    starts_as_base: bool = True
    not_for: dict[str, str] = field(default_factory=dict)  # kind -> reason


TABLE = {
    "LoRA": Row(
        lambda base: LoRA(base, rank=3, alpha=5),
        lambda m, n, layer: 3 * (m + n),
        not_for={"LayerNorm": "a norm has no weight matrix"},
    ),
    "LoRA, rsLoRA scale": Row(
        lambda base: LoRA(base, rank=2, alpha=5, rslora=True),
        lambda m, n, layer: 2 * (m + n),
        not_for={"LayerNorm": "a norm has no weight matrix"},
    ),
    "LoRA, dropout": Row(
        lambda base: LoRA(base, rank=3, alpha=5, dropout=0.3),
        lambda m, n, layer: 3 * (m + n),
        not_for={"LayerNorm": "a norm has no weight matrix"},
    ),
    "BitFit": Row(BitFit, lambda m, n, layer: m, not_for={"Embedding": "an embedding has no bias"}),
    "Replaced": Row(Replaced, lambda m, n, layer: sum(p.numel() for p in layer.parameters())),
}

CELLS = [(method, kind) for method in TABLE for kind in KINDS]
