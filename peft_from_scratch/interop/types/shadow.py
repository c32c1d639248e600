"""SHADOW: the tensors of each block stand at its site, those of the small body beside the model."""

import warnings

from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.prompts.body import body_of, name_of
from ...methods.representation.shadow import ShadowBlock, ShadowBody, shadow
from ...targets import Targets
from ..kind import Kind, Link, Links, setting
from ..match import exactly, named, targeted

Adapters = dict[str, Adapter]


def sites(model: nn.Module, config: dict) -> list[str]:
    """The body and its blocks: all of them, or those that target_modules names."""
    body = name_of(model, body_of(model))
    blocks = targeted(model, config) if config["target_modules"] else all_blocks(model)
    return [body, *blocks]


def all_blocks(model: nn.Module) -> list[str]:
    body = body_of(model)
    names = [f"{name_of(model, body)}.{key}" for key in ("layers", "h") if hasattr(body, key)]
    return [site for site in named(model) if names and site.rpartition(".")[0] == names[0]]


def shared(model: nn.Module, found: dict[str, dict], config: dict) -> Targets:
    if config["shadow_model"] != "mirror" or not config["share_embeddings"]:
        raise ValueError("SHADOW: this package has shadow_model='mirror' with share_embeddings=True alone")
    _, *blocks = found
    own = {"rank": config["r"], "alpha": config["shadow_alpha"], "dropout": config["shadow_dropout"]}
    layers, u = config["shadow_num_hidden_layers"] or 1, config["update_hidden_size"]
    return shadow(model, "|".join(exactly(blocks)), layers, u=u, **own)


def tensors(a: ShadowBlock | ShadowBody) -> Links:
    if isinstance(a, ShadowBody):
        return {}
    links = {"shadow_down.default.weight": Link(a.D.weight), "shadow_up.default.weight": Link(a.U)}
    for name, network in (("transform", a.T), ("gate", a.G)):
        links |= {f"shadow_update_{name}.default.{k}": Link(p) for k, p in network.named_parameters()}
    return links


def body_in(made: Adapters) -> ShadowBody:
    return next(a for a in made.values() if isinstance(a, ShadowBody))


def unused(side: nn.Module) -> str:
    """The name of the small body's own table of embeddings."""
    return next(f"{k}.weight" for k, m in side.named_modules() if m is side.get_input_embeddings())


def side(made: Adapters) -> Links:
    own = body_in(made).side
    state = own.state_dict(keep_vars=True)
    return {f"shadow_backbone.default.{k}": Link(t) for k, t in state.items() if k != unused(own)}


def side_saved(made: Adapters) -> Links:
    """With the base's table, where peft keeps one in the small body (it takes Llama's embed_tokens away)."""
    own, table = unused(body_in(made).side), body_in(made).get_input_embeddings().weight
    return side(made) | ({} if own == "embed_tokens.weight" else {f"shadow_backbone.default.{own}": Link(table)})


def used(config: dict, made: Adapters, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what the outputs do not need: that table, and a classifier's second head, which only its loss reads."""
    head = [k for k in state if k.startswith("base_model.shadow_head.")]
    if head:
        warnings.warn(f"SHADOW: left out, as only peft's auxiliary loss reads it: {', '.join(head)}", stacklevel=3)
    out = {*head, f"base_model.shadow_backbone.default.{unused(body_in(made).side)}"}
    return {k: t for k, t in state.items() if k not in out}


def settings(a: ShadowBlock | ShadowBody) -> dict:
    return {}


def whole_settings(made: Adapters) -> dict:
    blocks = {site: a for site, a in made.items() if isinstance(a, ShadowBlock)}
    each = [
        {
            "r": a.D.out_features, "shadow_alpha": a.alpha, "shadow_dropout": setting(a, "dropout"),
            "update_hidden_size": a.T[0].out_features,
        }
        for a in blocks.values()
    ]  # fmt: skip
    if any(fields != each[0] for fields in each):
        raise ValueError(f"peft's SHADOW has one of these for all blocks, and they differ: {each}")
    layers = body_in(made).side.config.num_hidden_layers
    return each[0] | {"shadow_num_hidden_layers": layers, "target_modules": list(blocks)}


def with_gaps(model: nn.Module, made: Adapters) -> str:
    inside = [site in made for site in all_blocks(model)]
    first, last = inside.index(True), len(inside) - inside[::-1].index(True)
    return "" if all(inside[first:last]) else "takes blocks that follow each other, and these leave some out"


SHADOW = Kind(
    "SHADOW",
    (ShadowBlock, ShadowBody),
    {
        "r": 8, "shadow_alpha": 0.1, "shadow_dropout": 0.2, "update_hidden_size": None, "share_embeddings": True,
        "shadow_model": "mirror", "shadow_num_hidden_layers": None,
    },
    tensors,
    settings,
    shared=shared,
    find=sites,
    whole=side,
    whole_saved=side_saved,
    whole_settings=whole_settings,
    normal=used,
    differs=with_gaps,
    harmless=("init_weights", "auxiliary_loss_weight"),
    refused=("shadow_hidden_size", "shadow_num_attention_heads", "shadow_intermediate_size"),
)  # fmt: skip

KINDS = (SHADOW,)
