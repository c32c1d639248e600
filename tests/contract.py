"""The table behind the contract: one line a method, in rows/. A cell that does not apply carries its reason."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from peft_from_scratch.methods.table import pages


def conv1d():
    layer = Conv1D(8, 12)
    nn.init.normal_(layer.bias)  # it starts at zero, where a method that scales the bias would have nothing to scale
    return layer


# Not square; inputs of three dimensions where the layer allows it. Even sizes, for methods that pair or block features.
KINDS = {
    "Linear": lambda: nn.Linear(12, 8),
    "Conv1D": conv1d,
    "Embedding": lambda: nn.Embedding(12, 8),
    "Conv2d": lambda: nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), padding_mode="reflect"),
    "Conv2d(groups)": lambda: nn.Conv2d(4, 8, 3, groups=2),
    "LayerNorm": lambda: nn.LayerNorm(12),
}
INPUTS = {
    "Linear": lambda g: torch.randn(2, 5, 12, generator=g),
    "Conv1D": lambda g: torch.randn(2, 5, 12, generator=g),
    "Embedding": lambda g: torch.randint(0, 12, (2, 5), generator=g),
    "Conv2d": lambda g: torch.randn(2, 4, 9, 8, generator=g),
    "Conv2d(groups)": lambda g: torch.randn(2, 4, 9, 8, generator=g),
    "LayerNorm": lambda g: torch.randn(2, 5, 12, generator=g),
}
SHAPES = {
    "Linear": (8, 12), "Conv1D": (8, 12), "Embedding": (8, 12), "Conv2d": (8, 24), "Conv2d(groups)": (8, 18),
    "LayerNorm": (12, 1),
}  # fmt: skip


@dataclass
class Row:
    """`factory(layer)` makes the adapter. `count` is the card's expression; `numbers` holds the arguments it names."""

    factory: Callable[[nn.Module], nn.Module]
    count: str
    numbers: dict[str, float] = field(default_factory=dict)
    merges: bool = True
    starts_as_base: bool | float = True  # a number: within so much, where the start is a product of many roundings
    not_for: dict[str, str] = field(default_factory=dict)  # kind -> reason
    no_reentrant: str = ""  # why re-entrant checkpointing does not apply
    learning_rate: float = 0.1
    in_training_only: tuple[str, ...] = ()  # parameters that eval mode leaves out, by name


CARDS = {card.name: card for card, _, _ in pages()}
ONLY_MATRICES = {"LayerNorm": "a norm has no weight matrix"}


def count(method: str) -> str:
    """What one site trains, as the method's page says."""
    return CARDS[method].count


def load_rows() -> dict[str, Row]:
    """All rows of tests/rows/*.py: each file has a dict ROWS."""
    import rows

    found: dict[str, Row] = {}
    for module in pkgutil.iter_modules(rows.__path__):
        new = importlib.import_module(f"rows.{module.name}").ROWS
        assert not found.keys() & new.keys()
        found |= new
    return found
