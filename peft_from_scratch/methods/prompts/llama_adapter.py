"""LLaMA-Adapter: attention to a few trained tokens, let in by a gate.  Zhang et al. 2023, arXiv:2303.16199, section 3.

    y = W_o attention(q, K, V) + W_o g softmax(q (W_k P)ᵀ / √h) W_v P       P: (n, width) and g: a number a layer

The prompt has a softmax of its own, so that g = 0 lets nothing in: starts as the base ("zero-init attention"), and only
g moves at first. Its keys and values are made by the layer's own frozen W_k and W_v. The queries are the host's,
rotated, and the prompt's keys, without a position, are not: so it matters where a text begins (with padding on the left
give position ids, as `generate` does). P starts as N(0, 1), as in the released code.

GPT-2's attention works as Llama's does; `project=False` leaves W_o out of the second term there, as Hugging Face peft's
checkpoints for GPT-2 need.

Kind: additive: soft prompt. On: attention of Llama, Mistral, Qwen2 and GPT-2 models. Trains: n_layers * (n_tokens *
width + 1). Merges: no. peft: ADAPTION_PROMPT.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapter import Adapter, plain, sites
from ...layers import new_weight
from ...targets import Targets
from .body import check_tokens, encoder_decoder, only

LLAMA, GPT2 = ("q_proj", "k_proj", "v_proj", "o_proj"), ("c_attn", "c_proj")
SUPPORTED = "Llama's q_proj, k_proj, v_proj and o_proj, or GPT-2's c_attn and c_proj"


def llama_adapter(
    model: nn.Module, n_tokens: int = 10, n_layers: int | None = None, project: bool = True
) -> Targets:  # fmt: skip
    """What `inject(model, ...)` needs: adapters on the attention of the top `n_layers` layers (None: of all)."""
    found = [] if encoder_decoder(model) else [site for site, m in sites(model) if _kind(plain(m))]
    if not found:
        raise ValueError(f"no attention in this model has {SUPPORTED}, on a decoder-only model")
    n_layers = len(found) if n_layers is None else n_layers
    if not 1 <= n_layers <= len(found):
        raise ValueError(f"n_layers must be from 1 to the model's {len(found)}, not {n_layers}")
    return {tuple(only(site) for site in found[-n_layers:]): lambda base: LlamaAdapter(base, n_tokens, project)}


class LlamaAdapter(Adapter):
    """The attention `base` plus g times its attention to P."""

    def __init__(self, base: nn.Module, n_tokens: int = 10, project: bool = True):
        super().__init__(base)
        check_tokens(n_tokens)
        if not _kind(base):
            raise TypeError(f"{type(base).__name__} is no attention that LLaMA-Adapter knows: it has {SUPPORTED}")
        key = base.k_proj if hasattr(base, "k_proj") else base.c_attn
        width = plain(key).in_features if hasattr(base, "k_proj") else plain(key).nx
        self.n_tokens, self.project = n_tokens, project
        self.P = nn.init.normal_(new_weight(key, n_tokens, width))
        self.g = new_weight(key, 1)

    def forward(self, hidden_states: Float[Tensor, "rows length width"], *args: Any, **told: Any) -> tuple:
        y, *rest = self.base(hidden_states, *args, **told)
        place = args[0] if args and hasattr(self.base, "q_proj") else told.get("position_embeddings")
        q, k, v = self.heads(hidden_states, place)
        scale = getattr(self.base, "scaling", None) or q.shape[-1] ** -0.5
        scores = (scale * q @ k.mT).softmax(-1, dtype=torch.float32)
        seen = (self.g * scores).to(q.dtype) @ v
        seen = seen.transpose(1, 2).flatten(2)
        return (y + (self.out(seen) if self.project else seen).to(y.dtype), *rest)

    def heads(self, x: Float[Tensor, "rows length width"], place: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The text's queries, and the prompt's keys and values, each as (rows or 1, heads, length or n, h)."""
        P, head_dim = self.P[None].to(x.dtype), self.base.head_dim
        if hasattr(self.base, "q_proj"):
            q, k, v = self.base.q_proj(x), self.base.k_proj(P), self.base.v_proj(P)
        else:
            q, (_, k, v) = self.base.c_attn(x).chunk(3, -1)[0], self.base.c_attn(P).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (-1, head_dim)).transpose(1, 2) for t in (q, k, v))
        groups = q.shape[1] // k.shape[1]
        q = q if place is None else rotated(q, *place)
        return q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)

    def out(self, seen: Float[Tensor, "rows length inner"]) -> Float[Tensor, "rows length width"]:
        """W_o without its bias, which y has already."""
        W_o = self.base.o_proj if hasattr(self.base, "o_proj") else self.base.c_proj
        return W_o(seen) if W_o.bias is None else W_o(seen) - W_o.bias

    def extra_repr(self) -> str:
        return f"n_tokens={self.n_tokens}" + ("" if self.project else ", project=False")


def rotated(
    q: Float[Tensor, "rows heads length h"], cos: Float[Tensor, "_ length h"], sin: Float[Tensor, "_ length h"]
) -> Float[Tensor, "rows heads length h"]:
    """Rotary positions as Llama has them: feature i turns with feature i + h/2."""
    a, b = q.chunk(2, -1)
    return q * cos[:, None] + torch.cat([-b, a], -1) * sin[:, None]


def _kind(module: nn.Module) -> bool:
    """Is this an attention whose arithmetic this page knows? One that also normalises its queries (q_norm) is not."""
    known = any(all(hasattr(module, part) for part in names) for names in (LLAMA, GPT2))
    return known and not hasattr(module, "q_norm")
