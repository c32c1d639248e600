"""What a config asks of a model: which sites, with which fields at each."""

from typing import NamedTuple

from torch import nn

from ..adapter import plain
from .kind import Kind
from .match import by_pattern, ends_with, named, replaced, targeted
from .types import kind_of


class Plan(NamedTuple):
    """The sites to adapt with the fields there, the modules to replace, the tokens to train by site of embedding."""

    model: nn.Module
    kind: Kind
    config: dict
    sites: dict[str, dict]
    whole: list[str]
    tokens: dict[str, list[int]]


def plan_of(model: nn.Module, config: dict) -> Plan:
    """ValueError where the config names modules that the model does not have."""
    kind = kind_of(config)
    if kind.peft_type == "TRAINABLE_TOKENS":
        target = config["target_modules"] or [embedding_name(model)]
        rows = dict.fromkeys(targeted(model, config | {"target_modules": target}), config["token_indices"])
        return Plan(model, kind, config, {}, [], rows)
    at = {site: _at(kind, config, site) for site in (kind.find or targeted)(model, config)}
    return Plan(model, kind, config, at, replaced(model, config), _tokens(model, config))


def _at(kind: Kind, config: dict, site: str) -> dict:
    """The fields at one site."""
    fields = {name: config[name] for name in kind.fields}
    own = {name: by_pattern(config[pattern], site, fields[name]) for name, pattern in kind.patterns.items()}
    return fields | own | kind.local(config, site)


def _tokens(model: nn.Module, config: dict) -> dict[str, list[int]]:
    """The rows that train beside the adapters: a list for the input embedding, or one for each named embedding."""
    given = config.get("trainable_token_indices")
    if given is None:
        return {}
    if isinstance(given, list):
        return {embedding_name(model): given}
    found = {site: rows for site in named(model) for name, rows in given.items() if ends_with(site, [name])}
    if len(found) != len(given):
        raise ValueError(f"trainable_token_indices names {sorted(given)}, of which this model has {sorted(found)}")
    return found


def embedding_name(model: nn.Module) -> str:
    """The site of the model's input embedding."""
    table = plain(plain(model).get_input_embeddings())
    return next(site for site, module in named(model).items() if module is table)
