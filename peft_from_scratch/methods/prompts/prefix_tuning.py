"""Prefix tuning: trained keys and values before those of the text.  Li and Liang 2021, arXiv:2101.00190, section 4.

    attention(q, [P_K; K], [P_V; V]) in every layer        P: (n, 2 L k h): L layers of k heads of keys of h numbers

P is put into the cache, so that no attention is touched: the text begins at position n, and the keys in P are stored as
the host stores them, after its rotation. With `hidden` P is made from E: (n, k h) by a network (section 4.3, steadier):
P = W_2 tanh(W_1 E). Random, or with `text` what the model itself leaves in the cache for these tokens: then the
adapted model starts as the plain one that has read them. Hugging Face peft draws N(0, 1), a far stronger start.
Does not go with gradient checkpointing, which drops caches.

In an encoder-decoder model the prefix is the decoder's (the paper has one in the encoder too, which keeps no cache).

Kind: additive: soft prompt. On: the body of a model. Trains: n_tokens * 2 * layers * kv_heads * head_dim. Merges: no.
peft: PREFIX_TUNING.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapter import plain
from ...layers import new_weight
from ...targets import Targets
from .body import Body, body_of, check_tokens, embeddings_of, encoder_decoder, name_of, only
from .cache import fill, layout_of, new_cache, rows_of_text
from .columns import is_empty, widen


def prefix_tuning(
    model: nn.Module,
    n_tokens: int = 20,
    hidden: int | None = None,
    text: Sequence[int] | None = None,
    std: float = 0.02,
) -> Targets:
    """What `inject(model, ...)` needs. `text`: token ids to start from, of which the first n_tokens are taken."""
    check_tokens(n_tokens)
    start = None if text is None else start_from_text(model, text, n_tokens)
    return around_cached(model, lambda body: PrefixTuning(body, n_tokens, hidden, start, std))


class Prefix(Body):
    """The body `base` with a prefilled cache; a method says in `rows` what is in it."""

    def __init__(self, base: nn.Module, n_tokens: int):
        super().__init__(base)
        check_tokens(n_tokens)
        self.n_tokens, self.layout = n_tokens, layout_of(base)

    def rows(self) -> Float[Tensor, "n width"]:
        """What each token of the prefix leaves in the cache."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **told: Any) -> Any:
        if self.training and any(getattr(m, "gradient_checkpointing", False) for m in self.base.modules()):
            raise ValueError("a prefix lives in the cache, which gradient checkpointing drops: turn checkpointing off")
        x = input_ids if inputs_embeds is None else inputs_embeds
        given = told.get("past_key_values")
        told = widen(told, self.n_tokens, x, False, self.base)
        if is_empty(given):
            told["past_key_values"] = new_cache(self.base) if given is None else given
            dtype = embeddings_of(self.base).weight.dtype
            fill(told["past_key_values"], self.rows(), self.layout, len(x), dtype)
        out = self.base(input_ids=input_ids, inputs_embeds=inputs_embeds, **told)
        if given is None and told.get("use_cache") is False:
            out.past_key_values = None  # nobody asked for one, and `generate` would go on with it
        return out


class PrefixTuning(Prefix):
    """The body `base` with the trained prefix P, or E and the network that makes P of it."""

    def __init__(
        self,
        base: nn.Module,
        n_tokens: int = 20,
        hidden: int | None = None,
        start: Float[Tensor, "n width"] | None = None,
        std: float = 0.02,
    ):
        super().__init__(base, n_tokens)
        if hidden is not None and (hidden < 1 or start is not None):
            raise ValueError("hidden must be at least 1, and a start from text goes without the network: hidden=None")
        table, each = embeddings_of(base), self.layout.heads * self.layout.head_dim
        P = new_weight(table, n_tokens, self.layout.width if hidden is None else each)
        self.P = nn.init.normal_(P, std=std) if start is None else nn.Parameter(start.to(P))
        self.network = None
        if hidden is not None:
            self.network = nn.Sequential(
                nn.Linear(each, hidden), nn.Tanh(), nn.Linear(hidden, self.layout.width)
            ).to(P)  # fmt: skip

    def rows(self) -> Float[Tensor, "n width"]:
        return self.P if self.network is None else self.network(self.P)

    def extra_repr(self) -> str:
        return f"n_tokens={self.n_tokens}"


def around_cached(model: nn.Module, factory: Any) -> Targets:
    """What `inject(model, ...)` needs to put a prefix around what keeps a cache."""
    return {only(name_of(model, caching_body(model))): factory}


def caching_body(model: nn.Module) -> nn.Module:
    """The plain module that keeps a cache: the decoder, if there is an encoder too."""
    return plain(plain(model).get_decoder()) if encoder_decoder(model) else body_of(model)


def start_from_text(model: nn.Module, text: Sequence[int], n_tokens: int) -> Float[Tensor, "n width"]:
    """The first n_tokens tokens of a text as the model caches them. ValueError for a text that is too short."""
    if len(text) < n_tokens:
        raise ValueError(
            f"the text has {len(text)} tokens, fewer than n_tokens={n_tokens}: take fewer or a longer text"
        )
    device = next(model.parameters()).device
    return rows_of_text(model, torch.as_tensor(list(text[:n_tokens]), device=device))
