"""From the adapters in a model to the config that describes them."""

import os
from collections import Counter

from torch import nn

from ..adapt import adapters
from ..adapter import Adapter, Replaced, base_parameters, plain
from ..layers import is_conv1d
from ..methods.selective.ln_tuning import is_norm
from ..methods.selective.trainable_tokens import TrainableTokens
from .build import Made
from .config import COMMON
from .kind import Kind
from .match import by_pattern, check_own_weights, exactly, named, targeted
from .task import kept, task_of
from .types import KINDS


def described(model: nn.Module, name: str | None) -> Made:
    """The adapters called `name` (all, if they have one name) and the type that peft calls them."""
    known = {a.name for _, a in adapters(model)}
    if not known or (name is None and len(known) > 1) or name not in known | {None}:
        raise ValueError(f"say which adapters with name=: this model has {sorted(known)}")
    by_site = dict(adapters(model, name))
    whole = {site: a for site, a in by_site.items() if isinstance(a, Replaced)}
    tokens = {site: a for site, a in by_site.items() if isinstance(a, TrainableTokens)}
    own = {site: a for site, a in by_site.items() if site not in whole and site not in tokens}
    check_own_weights(model, [site for site in (*own, *whole) if site])
    kind = _kind(own, whole, tokens)
    if kind.peft_type == "LN_TUNING":
        own = {site: a for site, a in whole.items() if is_norm(a.base)}
        whole = {site: a for site, a in whole.items() if site not in own}
    rows = {site: (a, a.tokens.tolist()) for site, a in tokens.items() if isinstance(a.base, nn.Embedding)}
    tied = {site: a for site, a in tokens.items() if site not in rows}
    whole = kept(model, kind) | whole
    if why := kind.differs(model, own):
        raise ValueError(f"peft's {kind.peft_type} {why}")
    return Made(kind, {}, own, whole, rows, tied, _biases(model, own))


def _kind(own: dict[str, Adapter], whole: dict, tokens: dict) -> Kind:
    """The type of the adapters; whole norms are LN_TUNING, rows alone TRAINABLE_TOKENS."""
    classes = {type(a) for a in own.values()}
    if not classes:
        peft_type = "TRAINABLE_TOKENS" if tokens and not whole else "LN_TUNING"
        if peft_type == "LN_TUNING" and (tokens or not any(is_norm(a.base) for a in whole.values())):
            raise ValueError("only whole modules are replaced here, and peft has no type for that: use save_adapter")
        return KINDS[peft_type]
    fits = [kind for kind in KINDS.values() if classes <= set(kind.adapters)]
    if not fits:
        names = ", ".join(sorted(c.__name__ for c in classes))
        raise ValueError(f"peft has no type for a model with {names}: use save_adapter")
    if tokens and not fits[0].trains_tokens:
        raise ValueError(f"peft's {fits[0].peft_type} does not train tokens beside its adapters: use save_adapter")
    return fits[0]


def _biases(model: nn.Module, own: dict[str, Adapter]) -> dict[str, nn.Parameter]:
    """The base parameters that train in place: all biases, or those of the adapted layers."""
    live = {k: p for k, p in base_parameters(model).items() if p.requires_grad}
    if odd := [k for k in live if not k.endswith(".bias")]:
        raise ValueError(f"{odd[0]} trains in place, and a peft checkpoint holds no base weight: use save_adapter")
    return live


def config_of(model: nn.Module, made: Made) -> dict:
    """The fields of `adapter_config.json`. ValueError where the sites differ in a field that has no pattern."""
    kind, base = made.kind, getattr(getattr(plain(model), "config", None), "_name_or_path", "")
    config = {
        "peft_type": kind.peft_type,
        "task_type": task_of(model, kind),
        "inference_mode": True,
        "base_model_name_or_path": None if os.path.isabs(base) else base or None,  # a folder here is none elsewhere
    }
    if kind.peft_type == "TRAINABLE_TOKENS":
        return config | _token_fields(made)
    config |= _settings(made) | kind.whole_settings(made.adapters)  # a type may name its targets itself
    if made.whole:
        config["modules_to_save"] = sorted(made.whole)
        if "modules_to_save" in kind.refused:
            raise ValueError(f"peft's {kind.peft_type} trains no whole modules beside: use save_adapter")
    if kind.bias_only:
        config["bias"] = _bias(model, made)
    elif made.biases:
        raise ValueError(f"peft's {kind.peft_type} trains no biases: use save_adapter")
    if made.tokens:
        config["trainable_token_indices"] = {site: order for site, (_, order) in made.tokens.items()}
    if any(is_conv1d(a.base) for a in made.adapters.values()):
        if not kind.conv1d:
            raise ValueError(f"peft's {kind.peft_type} does not adapt GPT-2's Conv1D: use save_adapter")
        config["fan_in_fan_out"] = True
    if kind.find is None and "target_modules" not in config:
        config["target_modules"] = _targets(model, list(made.adapters), config)
    return config


def _token_fields(made: Made) -> dict:
    orders = [order for _, order in made.tokens.values()]
    if any(order != orders[0] for order in orders):
        raise ValueError("peft's TRAINABLE_TOKENS has one list of tokens, and these embeddings train different ones")
    return {"target_modules": list(made.tokens), "token_indices": orders[0]}


def _settings(made: Made) -> dict:
    """The fields that all sites share, and the patterns for what they do not."""
    at = {site: made.kind.settings(a) for site, a in made.adapters.items()}
    config = {}
    for field in dict.fromkeys(field for fields in at.values() for field in fields):
        values = {site: fields.get(field) for site, fields in at.items()}
        config[field] = Counter(map(repr, values.values())).most_common(1)[0][0]
        config[field] = next(v for v in values.values() if repr(v) == config[field])
        if all(v == config[field] for v in values.values()):
            continue
        if field not in made.kind.patterns:
            raise ValueError(f"peft's {made.kind.peft_type} has one {field} for all sites, and these differ: {values}")
        config[made.kind.patterns[field]] = _pattern(values, config[field])
    return config


def _pattern(values: dict[str, object], default: object) -> dict[str, object]:
    """Names of sites with their values: those that differ, or all where a name would also fit another site."""
    longest_first = sorted(values, key=len, reverse=True)
    pattern = {site: values[site] for site in longest_first if values[site] != default}
    if all(by_pattern(pattern, site, default) == value for site, value in values.items()):
        return pattern
    return {site: values[site] for site in longest_first}


def _bias(model: nn.Module, made: Made) -> str:
    if not made.biases:
        return "none"
    every = {k for k in base_parameters(model) if k.endswith(".bias")}
    own = {k for k in every if k.removesuffix(".bias") in made.adapters}
    if made.biases.keys() not in (every, own):
        raise ValueError("peft trains all biases, or those of all adapted layers: here other biases train")
    return "all" if made.biases.keys() == every else made.kind.bias_only


def _targets(model: nn.Module, wanted: list[str], config: dict) -> list[str] | str:
    """What names exactly these sites: the ends of their names, or their whole names, or a pattern of these."""
    ends = sorted({site.rpartition(".")[2] for site in wanted})
    for target in (ends, sorted(wanted)):
        if targeted(model, COMMON | config | {"target_modules": target}) == [s for s in named(model) if s in wanted]:
            return target
    return "|".join(exactly(wanted))
