"""A cache of keys and values as rows of numbers: row i is what token i leaves there, layer by layer: k, v."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .body import body_of, encoder_decoder


class Layout(NamedTuple):
    """What one token leaves in the cache: a key and a value of `heads` x `head_dim` in each layer."""

    layers: int
    heads: int
    head_dim: int

    @property
    def width(self) -> int:
        return self.layers * 2 * self.heads * self.head_dim


def layout_of(body: nn.Module) -> Layout:
    """Read from the body's configuration. With grouped queries only the heads of keys and values count."""
    config = body.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Layout(config.num_hidden_layers, heads, head_dim)


def fill(cache: Any, P: Float[Tensor, "n width"], layout: Layout, rows: int, dtype: torch.dtype) -> None:
    """Put P into an empty cache, the same for each row of the batch."""
    layers, heads, head_dim = layout
    by_layer = P.to(dtype).view(len(P), layers, 2, heads, head_dim).permute(1, 2, 3, 0, 4)
    own = getattr(cache, "self_attention_cache", cache)
    for i, (k, v) in enumerate(by_layer):
        own.update(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1), i)


def new_cache(base: nn.Module) -> Any:
    """An empty cache of the kind that this body grows."""
    from transformers import DynamicCache, EncoderDecoderCache

    own = DynamicCache(config=base.config)
    return EncoderDecoderCache(own, DynamicCache(config=base.config)) if encoder_decoder(base) else own


@torch.no_grad()
def rows_of_text(model: nn.Module, ids: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
    """What the plain model leaves in its cache when it reads these tokens."""
    from transformers import DynamicCache

    if encoder_decoder(model):
        raise ValueError("a start from text needs a model without a separate encoder: leave `text` out")
    body = body_of(model)
    cache, training = DynamicCache(), body.training  # without a configuration it keeps all, past a sliding window too
    body.eval()(input_ids=ids[None], past_key_values=cache, use_cache=True)
    body.train(training)
    pairs = torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers])
    return pairs.permute(3, 0, 1, 2, 4).flatten(1)
