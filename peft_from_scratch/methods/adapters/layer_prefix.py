"""A prefix of its own length in each layer, or in some layers only: what hybrids choose (S4, s4.py).

    attention of layer l: (q, [P_K; K], [P_V; V])        P of layer l: (n_l, 2 k h),  k heads of keys of h numbers

The host makes one mask for all layers, so that every layer's cache is filled with N = max n_l columns; a layer with
fewer has zeros there and hides them: exactly as if they were not there. The text begins at position N.
Trains 2 k h Σ n_l numbers. For the rest it is prefix tuning (prompts/prefix_tuning.py).

    model = inject(model, layer_prefix(model, [0, 0, 8, 8, 12, 12]))
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight
from ...targets import Targets
from ..prompts.body import embeddings_of
from ..prompts.prefix_tuning import Prefix, around_cached, caching_body
from .places import Block, Places, blocks


def layer_prefix(
    model: nn.Module, lengths: Sequence[int], std: float = 0.02, places: Places | None = None
) -> Targets:  # fmt: skip
    """What `inject(model, ...)` needs. `lengths`: the tokens of each layer; of a decoder's, if there is an encoder."""
    sites = attentions(model, blocks(model, places))
    if len(lengths) != len(sites) or min(lengths) < 0 or max(lengths) < 1:
        raise ValueError(
            f"lengths has {list(lengths)}: give {len(sites)} numbers, one for each layer, one of them not 0"
        )
    hidden = {site: max(lengths) - n for site, n in zip(sites, lengths, strict=True)}
    shorter = {re.escape(site): partial(Shorter, hidden=n) for site, n in hidden.items() if n}
    return around_cached(model, lambda body: LayerPrefix(body, lengths, std)) | shorter


class LayerPrefix(Prefix):
    """The body `base` with the trained P of each layer that has one."""

    def __init__(self, base: nn.Module, lengths: Sequence[int], std: float = 0.02):
        super().__init__(base, max(lengths))
        self.lengths, each = tuple(lengths), 2 * self.layout.heads * self.layout.head_dim
        P = {str(i): new_weight(embeddings_of(base), n, each) for i, n in enumerate(lengths) if n}
        self.P = nn.ParameterDict({i: nn.init.normal_(p, std=std) for i, p in P.items()})

    def rows(self) -> Float[Tensor, "n width"]:
        """Row i is column i of the cache; a shorter P stands at the end, next to the text."""
        none = next(iter(self.P.values()))[:0]
        columns = [self.P.get(str(i), none) for i in range(len(self.lengths))]
        return torch.cat([F.pad(P, (0, 0, self.n_tokens - len(P), 0)) for P in columns], 1)

    def extra_repr(self) -> str:
        return f"lengths={list(self.lengths)}"


class Shorter(Adapter):
    """The attention `base`, which does not see the first `hidden` columns of the cache."""

    def __init__(self, base: nn.Module, hidden: int):
        super().__init__(base)
        self.hidden = hidden

    def forward(self, hidden_states: Shaped[Tensor, "rows length d"], *args: Any, **told: Any) -> tuple:
        kept = prefix_in(told.get("past_key_values"), self.base)
        stored = kept.keys.shape[-2]
        dropped = kept.get_seq_length() - stored  # by a cache that keeps a window of the last columns
        columns = torch.arange(stored + hidden_states.shape[1], device=hidden_states.device) + dropped
        name = "mask" if "mask" in told else "attention_mask"  # the first is T5's
        told[name] = hide(told.get(name), columns < self.hidden, hidden_states)
        return self.base(hidden_states, *args, **told)

    def extra_repr(self) -> str:
        return f"hidden={self.hidden}"


def hide(mask: Tensor | None, columns: Shaped[Tensor, " seen"], x: Tensor) -> Tensor:
    """The attention's mask without these columns: of booleans, or of numbers that are added to the scores."""
    if mask is None:  # with a prefix in the cache: everything is seen
        mask = x.new_zeros(1, 1, 1, len(columns))
    return mask & ~columns if mask.dtype == torch.bool else mask.masked_fill(columns, torch.finfo(mask.dtype).min)


def prefix_in(cache: Any, attention: nn.Module) -> Any:
    """What one attention keeps in the cache. ValueError where there is none, or no prefix in it."""
    own = getattr(cache, "self_attention_cache", cache)
    if own is None or len(own.layers) <= attention.layer_idx or not own.get_seq_length(attention.layer_idx):
        raise ValueError("no prefix reached this attention: it needs the adapter around the body that fills the cache")
    return own.layers[attention.layer_idx]


def attentions(model: nn.Module, found: list[Block]) -> dict[str, Block]:
    """The sites of the attentions that read a cache, in order: those of a decoder, where there is an encoder too."""
    inside = set(caching_body(model).modules())
    cached = [b for b in found if b.norm in inside]
    if not all(b.places.query_value for b in cached):
        raise ValueError("a prefix needs to know the attention: name its query and value matrices in the places")
    return {b.site(b.places.query_value[0].rpartition(".")[0]): b for b in cached}
