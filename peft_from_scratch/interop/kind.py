"""What is known about one peft type: its fields, the adapter here that equals it, and the names of its tensors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..adapter import Adapter
from ..targets import Factory, Targets


def same(t: Tensor) -> Tensor:
    return t


class Link(NamedTuple):
    """One of our tensors, with what makes theirs of it and back."""

    tensor: Tensor
    out: Callable[[Tensor], Tensor] = same
    back: Callable[[Tensor], Tensor] = same


Links = dict[str, Link]


def nothing(*_) -> dict:
    return {}


@dataclass(frozen=True)
class Kind:
    """One peft type. `factory` makes an adapter from the fields at a site; `shared` instead makes them for all sites.

    `fields`: what is honoured, with peft's default. `harmless`: says nothing about what trained weights compute.
    `refused`: known, and an error unless empty. `patterns`: a field -> the field that overrides it by name of site.
    """

    peft_type: str
    adapters: tuple[type[Adapter], ...]
    fields: dict[str, object]
    tensors: Callable[[Adapter], Links]
    settings: Callable[[Adapter], dict]
    factory: Callable[[dict], Factory] | None = None
    shared: Callable[[nn.Module, dict[str, dict], dict], Targets] | None = None
    harmless: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    patterns: dict[str, str] = field(default_factory=dict)
    local: Callable[[dict, str], dict] = nothing  # fields that follow from the name of a site
    whole: Callable[[dict[str, Adapter]], Links] = nothing  # tensors of the model, not of a site
    whole_settings: Callable[[dict[str, Adapter]], dict] = nothing
    saved: Callable[[Adapter], Links] | None = None  # where what is written is not what is read
    whole_saved: Callable[[dict[str, Adapter]], Links] | None = None
    normal: Callable[[dict, dict, dict], dict] = lambda config, made, state: state  # older or shorter forms of a state
    differs: Callable[[nn.Module, dict], str] = lambda model, made: ""  # why peft would compute something else, if so
    settle: Callable[[Adapter], None] = lambda adapter: None  # after the tensors are in
    needs_weights: Callable[[dict], str] = lambda config: ""  # why a config alone is not enough
    find: Callable[[nn.Module, dict], list[str]] | None = None  # the sites, where target_modules does not say them
    root: str = "base_model.model."  # before the site in a tensor's name in the file
    whole_root: str = "base_model."  # before the names that `whole` gives
    by_task: bool = False  # peft runs it only under a task, and keeps the task's head in the file
    parts: Callable[[dict[str, Adapter]], list[dict]] | None = None  # checkpoints of their own, written beside
    trains_tokens: bool = False  # has trainable_token_indices
    bias_only: str = ""  # its word for training the biases of the adapted layers; empty: it trains none
    conv1d: bool = False  # peft adapts GPT-2's Conv1D
    conv2d: bool = False  # its tensors of a convolution are known here


def plainly(names: dict[str, str]) -> Callable[[nn.Module], Links]:
    """Tensors that are stored as they are here: peft's name -> our attribute (with dots); what is None is left out."""

    def tensors(adapter: nn.Module) -> Links:
        found = {theirs: attribute(adapter, ours) for theirs, ours in names.items()}
        return {theirs: Link(t) for theirs, t in found.items() if t is not None}

    return tensors


def attribute(adapter: nn.Module, path: str) -> Tensor | None:
    """The tensor at a dotted path, or None where a part of it is absent."""
    for part in path.split("."):
        adapter = getattr(adapter, part, None)
    return adapter


def setting(adapter: Adapter, argument: str) -> object:
    """The argument that the adapter was made with: its attribute of that name; a dropout's is the probability."""
    value = getattr(adapter, argument)
    if isinstance(value, nn.Module):
        return value.p if isinstance(value, nn.Dropout) else 0.0
    return value


def one_to_one(make: type[Adapter], names: dict[str, str]) -> dict[str, Callable]:
    """`factory` and `settings` of a method whose arguments are peft's fields under other names."""

    def factory(config: dict) -> Factory:
        arguments = {ours: config[theirs] for theirs, ours in names.items()}
        return lambda base: make(base, **arguments)

    def settings(adapter: Adapter) -> dict:
        return {theirs: setting(adapter, ours) for theirs, ours in names.items()}

    return {"factory": factory, "settings": settings}


def shaped(t: Tensor, *shape: int) -> Link:
    """A tensor that has another shape in the file, with the numbers in the same order."""
    return Link(t, lambda v: v.reshape(shape), lambda v: v.reshape(t.shape))


def turned(t: Tensor) -> Link:
    """A tensor whose last two dimensions change places in the file."""
    return Link(t, lambda v: v.mT, lambda v: v.mT)


def minus(t: Tensor) -> Link:
    """A tensor that has the other sign in the file."""
    return Link(t, torch.neg, torch.neg)
