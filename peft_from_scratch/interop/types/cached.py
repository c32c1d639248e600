"""What peft's soft prompts in the cache share.

A file holds the rows of the cache, layer by layer: k, v. To an encoder-decoder's decoder peft 0.21.2 gives them twice
in a row and takes every second pair (the others once were for the cross-attention): layer i gets pair 2 i, counted
round. So half of the pairs of an even number of layers go to two layers, and half to none. A file written here has
twice as many pairs as the model has layers, so that every layer gets its own.
"""

import torch
from torch import Tensor, nn

from ...adapter import Adapter, plain
from ...methods.prompts.body import body_of, encoder_decoder, name_of
from ...methods.prompts.cache import Layout
from ...methods.prompts.prefix_tuning import Prefix, around_cached
from ...targets import Targets
from ..kind import Kind, Link
from .soft import FILE, SELECTION

Adapters = dict[str, Adapter]
SHAPE = dict.fromkeys(
    ("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers")
)


def cached_site(model: nn.Module, config: dict) -> list[str]:
    return [name_of(model, plain(model).get_decoder() if encoder_decoder(model) else body_of(model))]


def around(model: nn.Module, config: dict, make) -> Targets:
    """`make(body, n)` around what keeps a cache. ValueError for heads or layers that this model has not."""

    def factory(body: nn.Module) -> Prefix:
        prefix = make(body, config["num_virtual_tokens"] or 0)
        own = prefix.layout
        wanted = {"num_attention_heads": own.heads, "token_dim": own.heads * own.head_dim}
        if not encoder_decoder(model):
            wanted |= {"num_layers": own.layers, "num_transformer_submodules": 1}
        elif config["num_transformer_submodules"] == 1:
            raise ValueError(
                "num_transformer_submodules=1: peft runs a prefix in an encoder-decoder model with 2 alone"
            )
        for field, value in wanted.items():
            if config[field] not in (None, value):
                raise ValueError(f"{field}={config[field]}, and this model's cache has {value}")
        return prefix

    return around_cached(model, factory)


def prefix_of(made: Adapters) -> Prefix:
    return next(iter(made.values()))


def crosses(a: Prefix) -> bool:
    return encoder_decoder(a.base)


def in_layers(config: dict, made: Adapters, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows in the order of this model's layers."""
    a = prefix_of(made)
    each = 2 * a.layout.heads * a.layout.head_dim
    rows = state.get(FILE)
    if not crosses(a) or rows is None or rows.ndim != 2 or rows.shape[1] % each:
        return state
    pairs = rows.view(len(rows), -1, each)
    return state | {FILE: pairs[:, [2 * i % pairs.shape[1] for i in range(a.layout.layers)]].flatten(1)}


def for_peft(a: Prefix) -> Tensor:
    """The rows as a file has them: with zeros after each pair where peft takes every second one."""
    rows = a.rows().detach()
    if not crosses(a):
        return rows
    pairs = rows.view(len(rows), a.layout.layers, -1)
    return torch.stack([pairs, torch.zeros_like(pairs)], 2).flatten(1)


def shape(made: Adapters) -> dict:
    a = prefix_of(made)
    own: Layout = a.layout
    return {
        "num_virtual_tokens": a.n_tokens,
        "token_dim": own.heads * own.head_dim,
        "num_attention_heads": own.heads,
        "num_layers": own.layers * (2 if crosses(a) else 1),
        "num_transformer_submodules": 2 if crosses(a) else 1,
    }


def cached(peft_type: str, page: type[Prefix], fields: dict, shared, whole, settings, **more) -> Kind:
    return Kind(
        peft_type,
        (page,),
        SHAPE | fields,
        tensors=lambda a: {},
        settings=lambda a: {},
        shared=shared,
        whole=whole,
        whole_settings=lambda made: shape(made) | settings(prefix_of(made)),
        whole_saved=lambda made: {FILE: Link(for_peft(prefix_of(made)))},
        find=cached_site,
        root="base_model.",
        whole_root="",
        by_task=True,
        refused=SELECTION,
        **{"normal": in_layers} | more,
    )
