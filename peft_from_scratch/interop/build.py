"""From a plan to adapters, and then into the model: made first and put in last, so that an error changes nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from ..adapt import adapters, inject
from ..adapter import Adapter, Replaced, base_parameters, plain
from ..methods.selective.trainable_tokens import TrainableTokens
from ..targets import Targets, twins
from ..targets import plan as modules_of
from .kind import Kind
from .match import check_own_weights, exactly, named
from .plan import Plan


class Made(NamedTuple):
    """The adapters of a checkpoint by site: the method's, whole modules, embeddings with trained rows; and biases."""

    kind: Kind
    config: dict
    adapters: dict[str, Adapter]
    whole: dict[str, Replaced]
    tokens: dict[str, tuple[TrainableTokens, list[int]]]  # with the order of the rows in the file
    tied: dict[str, TrainableTokens]  # output heads that use an embedding's rows
    biases: dict[str, nn.Parameter]


def built(plan: Plan, name: str) -> Made:
    """Adapters around the model's layers, not yet in the model. ValueError where it has some of this name already."""
    model, config = plan.model, plan.config
    known = {a.name for _, a in adapters(model)}
    if name in known:
        raise ValueError(f"the model already has adapters called {name!r}: remove them first, or give name=")
    check_own_weights(model, [site for site in (*plan.sites, *plan.whole) if site])
    made = _adapters(model, _factories(plan))
    whole = {site: Replaced(named(model)[site]) for site in plan.whole}
    tokens = {site: (TrainableTokens(named(model)[site], rows), list(rows)) for site, rows in plan.tokens.items()}
    biases = _biases(model, config["bias"], made)
    if biases and known:
        raise ValueError(
            f"bias={config['bias']!r} trains the base's own biases, which the adapters {sorted(known)} use too: "
            "load this checkpoint into a model without adapters"
        )
    return Made(plan.kind, config, made, whole, tokens, _tied(model, tokens), biases)


def _factories(plan: Plan) -> Targets:
    """A factory for the sites of each set of fields, or what the type itself makes where sites share tensors."""
    if plan.kind.shared is not None and plan.sites:
        return plan.kind.shared(plan.model, plan.sites, plan.config)
    groups: dict[str, list[str]] = {}
    for site, fields in plan.sites.items():
        groups.setdefault(json.dumps(fields, sort_keys=True, default=str), []).append(site)
    return {exactly(sites): plan.kind.factory(plan.sites[sites[0]]) for sites in groups.values()}


def _adapters(model: nn.Module, factories: Targets) -> dict[str, Adapter]:
    chosen = modules_of(model, factories, twins(model)) if factories else {}
    return {site: factory(module) for module, (site, factory) in chosen.items()}


def _tied(model: nn.Module, tokens: dict) -> dict[str, TrainableTokens]:
    """The output head, where it shares the weight of an embedding that trains rows: it uses the same rows."""
    head = plain(getattr(plain(model), "get_output_embeddings", lambda: None)())
    for adapter, rows in tokens.values():
        if head is not None and head is not adapter.base and head.weight is adapter.base.weight:
            site = next(site for site, m in named(model).items() if m is head)
            return {site: TrainableTokens(head, rows, adapter.rows)}
    return {}


def _biases(model: nn.Module, bias: str, made: dict[str, Adapter]) -> dict[str, nn.Parameter]:
    """The base's biases that train in place: all, or those of the adapted layers."""
    if bias == "none":
        return {}
    if bias != "all" and not str(bias).endswith("_only"):
        raise ValueError(f"bias must be 'none', 'all' or '<method>_only', not {bias!r}")
    own = {f"{site}.bias" for site in made}
    found = {k: p for k, p in base_parameters(model).items() if k.endswith(".bias")}
    return found if bias == "all" else {k: p for k, p in found.items() if k in own}


def installed(model: nn.Module, made: Made, name: str) -> nn.Module:
    """The model with the adapters in it."""
    tokens = {site: adapter for site, (adapter, _) in made.tokens.items()}
    everything = made.adapters | made.whole | tokens | made.tied
    around = {adapter.base: adapter for adapter in everything.values()}
    model = inject(model, {exactly(list(everything)): lambda base: around[base]}, name)
    for p in made.biases.values():
        p.requires_grad_(True)
    return model


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """After an error, what trained before trains again: making an adapter freezes its base."""
    before = [(p, p.requires_grad, p.grad) for p in base_parameters(model).values()]
    try:
        yield
    except BaseException:
        for p, trains, grad in before:
            p.requires_grad_(trains)
            p.grad = grad
        raise
