r"""The one mechanism behind every method: find modules, put an adapter around each, train only the adapters.

    inject(model, {r".*\.(query|value)": LoRA, "classifier": Replaced})

Names of state tensors and sites are those of the plain model, whatever is wrapped around it.
"""

import copy
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .adapter import Adapter, FrozenNorm, Switch, base_parameters, freeze, plain, sites
from .targets import Targets, plan, refuse_unreachable, twins


def adapters(model: nn.Module, name: str | None = None) -> Iterator[tuple[str, Adapter]]:
    """Every adapter with its site, each once, outer ones first; only those called `name` if it is given."""
    seen = set()
    for site, module in sites(model):
        if module not in seen:
            seen.add(module)
            yield from ((site, a) for a in _named(module).values() if name in (None, a.name))


def owned(model: nn.Module, name: str | None = None) -> Iterator[tuple[str, Adapter, str, Tensor]]:
    """Every tensor that adapters own, with its site, adapter and key there; one that several sites share comes once."""
    seen = set()
    for site, adapter in adapters(model, name):
        for key, tensor in adapter.own_state().items():
            if tensor not in seen:
                seen.add(tensor)
                yield site, adapter, key, tensor


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by plain name: active adapters', and the base's where it is tuned in place."""
    own = {site_name(site, key): t for site, _, key, t in owned(model) if t.requires_grad}
    return own | {k: p for k, p in base_parameters(model).items() if p.requires_grad}


def inject(model: nn.Module, targets: Targets, name: str = "default") -> nn.Module:
    """Freeze `model` and put an adapter around every module that `targets` names; return it.

    A key of `targets` is a regular expression that must match a module's whole name, a tuple of them, or
    `all-linear` (every linear layer but the output head and what another key names); a value makes the adapter.
    A second set of adapters on one model needs a `name`; from then on `switch` says which is active.

    Use the return value: a target may be the model itself (the empty name).
    ValueError, before anything is changed: a pattern that matches nothing, two that match one module, a site that
    already has an adapter of this name.
    """
    if not name or "." in name:
        raise ValueError(f"the adapter name {name!r} must be a non-empty word without a dot")
    twin = twins(model)
    chosen, places = plan(model, targets, twin), _places(model, twin)
    for module, (site, _) in chosen.items():
        if any(name in _named(m) for m in places[module]):
            raise ValueError(
                f"{site!r} already has an adapter called {name!r}: "
                "call remove(model) first, or give a second adapter its own name="
            )
    made = {module: factory(module) for module, (_, factory) in chosen.items()}
    refuse_unreachable(chosen, [a for _, a in adapters(model)] + list(made.values()))
    freeze(model)
    for module, adapter in made.items():
        adapter.name = name
        adapter.train(module.training)
    norms = {m: FrozenNorm(m) for _, m in sites(model) if isinstance(m, _BatchNorm) and m not in made}
    model = _replace(model, norms)
    if {a.name for _, a in adapters(model)} <= {name}:
        return _replace(model, {m: adapter for module, adapter in made.items() for m in places[module]})

    model = with_switches(model)
    places = _places(model, twin)
    new: dict[nn.Module, nn.Module] = {}
    for module, adapter in made.items():
        if isinstance(there := places[module][0], Switch):
            there.adapters[name] = adapter
        else:
            new |= dict.fromkeys(places[module], Switch(module, {name: adapter}))
    return switch(_replace(model, new), name)


def switch(model: nn.Module, name: str | None) -> nn.Module:
    """Make the adapters called `name` the active ones, heads included; None is the base, bit for bit.

    ValueError for an unknown name, and inside `per_row`, which says itself who is used (combine/rows.py).
    """
    known = {a.name for _, a in adapters(model)}
    if name is not None and name not in known:
        raise ValueError(f"no adapter is called {name!r}: this model has {sorted(known)}")
    model = with_switches(model)
    switches = [module for _, module in sites(model) if isinstance(module, Switch)]
    if any(module.by_row is not None for module in switches):
        raise ValueError("each row has its own adapter in here: leave the block of `per_row` before you switch")
    for module in switches:
        module.activate(name)
    return model


def remove(model: nn.Module, name: str | None = None) -> nn.Module:
    """Take the adapters away (those called `name`, or all) and return the base model, bit for bit."""
    in_place = [k for k, p in base_parameters(model).items() if p.requires_grad]
    if in_place:
        raise ValueError(
            f"{len(in_place)} base parameters train in place ({in_place[0]}, ...): load the model again instead"
        )
    known = {a.name for _, a in adapters(model)}
    if not known or name not in known | {None}:
        raise ValueError(f"no adapter {name or ''!r} to remove: this model has {sorted(known)}")
    if name is None or known == {name}:
        return _replace(model, {m: _removed(m) for _, m in sites(model) if isinstance(m, Adapter)})
    for _, module in sites(model):
        if isinstance(module, Switch) and name in module.adapters:
            del module.adapters[name]
            module.asleep.pop(name, None)
            module.active = None if module.active == name else module.active
    return model


def merge(model: nn.Module) -> nn.Module:
    """A new plain model with the active adapters folded in; `model` is left as it was.

    NotImplementedError where a method has no merge. Resize embeddings before; save the whole model only after.
    """
    model = copy.deepcopy(model)
    tied = _tied(model)
    for module in reversed([m for _, m in sites(model) if isinstance(m, Adapter)]):  # inner ones first
        model = _replace(model, {module: module.merged()})
    if tied and not _tied(model):  # or saving and loading would tie the adapted weight to the other again
        model.config.tie_word_embeddings = False
    return model


def _places(model: nn.Module, twin: dict[nn.Module, nn.Module]) -> dict[nn.Module, list[nn.Module]]:
    """What stands at the places of each plain module and its twins: they themselves, or what is around them."""
    places: dict[nn.Module, list[nn.Module]] = {}
    for _, module in sites(model):
        if plain(module) in twin:
            places.setdefault(twin[plain(module)], []).append(module)
    return places


def _replace(model: nn.Module, new: dict[nn.Module, nn.Module]) -> nn.Module:
    """Put `new[m]` wherever `m` stands, under all its names; returns the model, or what replaces it."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child in new:
                parent._modules[key] = new[child]
    return new.get(model, model)


def with_switches(model: nn.Module) -> nn.Module:
    """Turn every adapter that stands alone into a `Switch` of one, switched to it."""
    alone = [m for _, m in sites(model) if isinstance(m, Adapter) and m.name]
    new = {m: Switch(m.base, {m.name: m}) for m in alone}
    for adapter, site in new.items():
        site.active = adapter.name
    return _replace(model, new)


def _named(module: nn.Module) -> dict[str, Adapter]:
    """The adapters at one site, by name."""
    if isinstance(module, Switch):
        return dict(module.adapters.items())
    return {module.name: module} if isinstance(module, Adapter) and module.name else {}


def _removed(module: Adapter) -> nn.Module:
    """The base of one site, after each of its adapters has undone what it did to it."""
    for adapter in _named(module).values():
        adapter.removed()
    return module.removed()


def _tied(model: nn.Module) -> bool:
    """Do the input and the output embedding share one weight?"""
    root = plain(model)
    ends = [plain(getattr(root, f"get_{end}_embeddings", lambda: None)()) for end in ("input", "output")]
    return None not in ends and ends[0].weight is ends[1].weight


def site_name(site: str, key: str) -> str:
    """The plain name of something at a site (the model itself has the empty name)."""
    return f"{site}.{key}" if site else key
