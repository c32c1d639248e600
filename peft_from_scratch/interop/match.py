"""Which modules a peft config names: its own rules, which differ from this package's whole-name patterns."""

import re
from collections import Counter

from torch import nn

from ..adapter import plain, sites
from ..layers import is_linear
from ..targets import twins

HEADS = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}


def named(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by its first name, the model itself left out, as `named_modules` lists them."""
    seen: dict[nn.Module, str] = {}
    for site, module in sites(model):
        seen.setdefault(plain(module), site)
    return {site: module for module, site in seen.items() if site}


def targeted(model: nn.Module, config: dict) -> list[str]:
    """The sites that the config adapts, in the model's order. ValueError where there are none."""
    target = config["target_modules"]
    if target in (None, [], ""):
        raise ValueError("the config has no target_modules: name them (a saved checkpoint always does)")
    if isinstance(target, str) and config["layers_to_transform"] is not None:
        raise ValueError("layers_to_transform goes with a list of target_modules, not with one pattern")
    modules = named(model)
    if isinstance(target, str) and target.lower() == "all-linear":
        target = _all_linear(model, modules, config)
    found = [site for site in modules if _hit(target, site, config) and not _excluded(site, config)]
    if not found:
        raise ValueError(
            f"the target_modules {_short(target)} name no module of this model, which has {_short(modules)}"
        )
    return found


def _hit(target: str | list[str], site: str, config: dict) -> bool:
    if isinstance(target, str):
        return re.fullmatch(target, site) is not None
    return ends_with(site, target) and (site in target or _in_layers(site, config))


def ends_with(site: str, names: list[str]) -> bool:
    """Whether the site is one of `names`, or ends with a dot and one of them."""
    return any(site == name or site.endswith(f".{name}") for name in names)


def _in_layers(site: str, config: dict) -> bool:
    """Whether the layer's number is in layers_to_transform: the one after a word of layers_pattern, or the first."""
    layers, patterns = config["layers_to_transform"], config["layers_pattern"]
    if layers in (None, []):
        return True
    layers = [layers] if isinstance(layers, int) else layers
    patterns = [patterns] if isinstance(patterns, str) and patterns else patterns
    found = [re.match(rf"(?:^|.*?\.){p}\.(\d+)\.", site) for p in patterns or []]
    if not patterns:
        found = [re.match(r".*?\.[^.]*\.(\d+)\.", site)]
    number = next((m[1] for m in found if m), None)
    return number is not None and int(number) in layers


def _excluded(site: str, config: dict) -> bool:
    exclude, whole = config["exclude_modules"] or [], saved_names(config)
    if isinstance(exclude, str):
        out = re.fullmatch(exclude, site) is not None
    else:
        out = ends_with(site, exclude)
    return out or any(re.match(rf"(^|.*\.){name}($|\..*)", site) for name in whole)


def _all_linear(model: nn.Module, modules: dict[str, nn.Module], config: dict) -> list[str]:
    """All linear layers but the output head: unlike this package's word, BERT's pooler is among them."""
    head = plain(getattr(plain(model), "get_output_embeddings", lambda: None)())
    if head is None and config["task_type"] == "SEQ_CLS":
        tops = (getattr(plain(model), name, None) for name in ("score", "classifier"))
        head = next((plain(top) for top in tops if top is not None), None)
    return [site for site, m in modules.items() if is_linear(m) and m is not head]


def saved_names(config: dict) -> list[str]:
    """modules_to_save, with the heads that peft adds for the task."""
    return [*(config["modules_to_save"] or []), *HEADS.get(config["task_type"], ())]


def replaced(model: nn.Module, config: dict) -> list[str]:
    """The sites of the modules that train as a whole. ValueError where the config names one that is not there."""
    names = config["modules_to_save"] or []
    found = [site for site in named(model) if site.endswith(tuple(saved_names(config)))] if saved_names(config) else []
    heads = {name for group in HEADS.values() for name in group}
    if missing := [n for n in names if n not in heads and not any(site.endswith(n) for site in found)]:
        raise ValueError(f"modules_to_save names {missing[0]!r}, which this model does not have")
    return [site for site in found if not any(site.startswith(f"{outer}.") for outer in found)]


def check_own_weights(model: nn.Module, adapted: list[str]) -> None:
    """ValueError for a site whose weight stands under other names too, like T5's embedding."""
    twin, modules = twins(model), named(model)
    places = Counter(twin[plain(m)] for _, m in sites(model))
    for site in adapted:
        if places[twin[modules[site]]] > 1:
            raise ValueError(
                f"{site} has its weight under other names too: peft adapts one of them, this package all, so the "
                "outputs would differ; leave it out"
            )


def by_pattern(patterns: dict[str, object], site: str, default: object) -> object:
    """The value of the first pattern that fits the end of the site's name, as in peft."""
    fits = (value for key, value in patterns.items() if site == key or re.match(rf"(.*\.)?({key})$", site))
    return next(fits, default)


def exactly(sites: list[str]) -> tuple[str, ...]:
    """Patterns for `inject` that match these names and no other."""
    return tuple(re.escape(site) for site in sites)


def _short(names) -> str:
    shown = [names] if isinstance(names, str) else list(names)
    return f"{shown[:6]}" + (" and more" if len(shown) > 6 else "")
