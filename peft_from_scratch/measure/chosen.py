"""A method by its name on a model: a row of the comparison, or the adapter class of any page with settings."""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from .. import methods
from ..adapt import inject
from ..adapter import Adapter
from ..assets import suggestion
from ..compare.contestants import CONTESTANTS, with_head
from ..training.running import Batch


def method_called(name: str, targets: str, settings: dict) -> tuple[Callable, Callable]:
    """A row of the comparison, or the adapter class of a page with these settings: (model, examples) -> model."""
    name, rows = name.casefold(), {key.casefold(): row for key, row in CONTESTANTS.items()}
    if name in rows and not settings:
        return rows[name].adapt, rows[name].fit
    classes = adapter_classes()
    if name not in classes:
        known = classes if settings else classes | rows
        missing = "adapter class" if settings else "method"
        raise ValueError(f"there is no {missing} called {name!r}{suggestion(name, known)}")

    def change(model: nn.Module, examples: object) -> nn.Module:
        return inject(model, {targets: partial(classes[name], **settings)} | with_head(model))

    return change, lambda model, steps: {}


def adapter_classes() -> dict[str, type[Adapter]]:
    """Every adapter of methods/, by the name of its class in small letters."""
    found = {}
    for entry in pkgutil.walk_packages(methods.__path__, f"{methods.__name__}."):
        module = importlib.import_module(entry.name)
        own = (c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Adapter))
        found |= {c.__name__.casefold(): c for c in own if c.__module__ == module.__name__}
    return found


def settings_of(words: list[str]) -> dict:
    """["rank=4", "rslora=True"] as arguments; what is no Python value is text."""
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ValueError(f"--set takes KEY=VALUE, such as rank=16, not {word!r}")
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return settings


def full_batch(model: nn.Module, rows: int, length: int, device: str) -> Batch:
    """Rows of full length, without padding; labels of the kind that the model wants."""
    ids = torch.arange(rows * length, device=device).reshape(rows, length) % (model.config.vocab_size - 10) + 5
    classify = "SequenceClassification" in type(model).__name__
    labels = torch.arange(rows, device=device) % 2 if classify else ids
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
