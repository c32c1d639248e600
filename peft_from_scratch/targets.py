"""Which modules a target names: regular expressions over whole names, and the word `all-linear`."""

import difflib
import re
from collections.abc import Callable

from torch import nn

from .adapter import Adapter, Replaced, plain, sites
from .layers import is_linear

ALL_LINEAR = "all-linear"
Factory = Callable[[nn.Module], Adapter]
Targets = dict[str, Factory] | dict[tuple[str, ...], Factory] | dict[str | tuple[str, ...], Factory]


def plan(model: nn.Module, targets: Targets, twin: dict) -> dict[nn.Module, tuple[str, Factory]]:
    """The plain modules to adapt, with site and factory: listed first, so that no adapter's own module is a target."""
    named = [(site, twin[plain(m)]) for site, m in sites(model)]
    found: dict[nn.Module, tuple[str, Factory]] = {}
    everything: Factory | None = None
    for key, factory in targets.items():
        for pattern in (key,) if isinstance(key, str) else key:
            if pattern == ALL_LINEAR:
                everything = factory
                continue
            hits = [(site, m) for site, m in named if re.fullmatch(pattern, site)]
            if not hits:
                raise ValueError(_no_match(pattern, [site for site, _ in named]))
            for site, m in hits:
                if found.setdefault(m, (site, factory))[1] is not factory:
                    raise ValueError(f"two targets name {site!r}: make their patterns exclude each other")
    if everything is not None:
        head = output_head(model)
        linear = {m: (site, everything) for site, m in reversed(named) if is_linear(m) and m not in head}
        if not linear:
            raise ValueError("'all-linear' names nothing: this model has no linear layer outside its head")
        found = linear | found  # a module that a pattern names keeps that pattern's factory
    return found


def twins(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Every plain module -> the first with the very same weights: itself, but for T5's embedding in three modules."""
    first: dict[object, nn.Module] = {}
    twin = {}
    for module in (plain(m) for _, m in sites(model)):
        weights = [id(p) for p in module._parameters.values() if p is not None]
        twin[module] = first.setdefault((type(module), *weights) if weights else module, module)
    return twin


def output_head(model: nn.Module) -> set[nn.Module]:
    """The modules that turn hidden states into the answer: language-model head, classifier, BERT's pooler.

    As in Hugging Face peft 0.21.2, but for the pooler, which `all-linear` adapts there in a sequence classifier.
    """
    root = plain(model)
    body = getattr(root, getattr(root, "base_model_prefix", "") or "no body", None)
    tops = [m for m in root.children() if body is not None and m is not body] + [getattr(plain(body), "pooler", None)]
    if hasattr(root, "get_output_embeddings"):
        tops.append(root.get_output_embeddings())
    return {plain(m) for top in tops if top is not None for _, m in sites(top)}


def refuse_unreachable(plan: dict[nn.Module, tuple[str, Factory]], around: list[Adapter]) -> None:
    """ValueError for a target inside a module that is replaced as a whole: its adapter would never run."""
    for adapter in around:
        inside = set(adapter.base.modules()) - {adapter.base} if isinstance(adapter, Replaced) else set()
        for module in inside & plan.keys():
            raise ValueError(
                f"{plan[module][0]!r} lies in a module that is Replaced as a whole: adapt one or the other"
            )


def _no_match(pattern: str, names: list[str]) -> str:
    """What to say about a pattern that names no module: the names near it, or those there are."""
    kinds = list(dict.fromkeys(re.sub(r"\b\d+\b", "0", name) for name in names if name))
    word = re.sub(r"\W+$|^\W+", "", pattern.split(".")[-1])
    ends = {kind.split(".")[-1]: kind for kind in reversed(kinds)}
    near = [kind for kind in kinds if word and word in kind] or [ends[e] for e in difflib.get_close_matches(word, ends)]
    return (
        f"the target {pattern!r} names no module; a pattern must match the whole name. "
        f"{'Near it' if near else 'There are'}: {', '.join(near[:6] or kinds[:12])}"
    )
