"""Trainable tokens: train a few rows of an embedding, for tokens that are new or mean something new.

    e(t) = row of t in T (trained) if t is one of the chosen tokens, else the embedding's own row

The rows start as copies: starts as the base. A feature of Hugging Face peft, not a paper. Where the output head shares
the embedding's weight it uses the same trained rows: the logit of a chosen token is h · T_t + b_t. peft 0.21.2 forgets
b there (issue 3649): a fresh adapter moves the logits of BERT's head.

Paper: Hugging Face peft 2025, peft 0.21.2. Kind: selective. On: Embedding, and the Linear head tied to it. Trains:
tokens * d_out. Merges: yes. peft: TRAINABLE_TOKENS.
"""

import copy
import re
from collections.abc import Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ...adapt import inject
from ...adapter import Adapter, plain, sites
from ...layers import refuse_4bit


class TrainableTokens(Adapter):
    """An embedding, or an output head, with the rows of a few tokens trained; `rows`: another site's, to share."""

    def __init__(self, base: nn.Module, tokens: Iterable[int], rows: nn.Module | None = None):
        super().__init__(base)
        refuse_4bit(base, "Training tokens")
        chosen, V = sorted(set(map(int, tokens))), len(base.weight)
        if not chosen or chosen[0] < 0 or chosen[-1] >= V:
            what = f"tokens must be one or more numbers from 0 to {V - 1}, not {chosen[:8]}"
            raise ValueError(f"{what}: for new tokens call resize_token_embeddings first")
        self.register_buffer("tokens", torch.tensor(chosen, device=base.weight.device))
        self.rows = chosen_rows(base, self.tokens) if rows is None else rows

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, T = self.base(x), self.rows.weight
        if isinstance(self.base, nn.Embedding):
            place = torch.searchsorted(self.tokens, x).clamp(max=len(T) - 1)  # where x would stand among the chosen
            e = torch.func.functional_call(self.rows, {"weight": T.to(y.dtype)}, (place,))
            return torch.where((self.tokens[place] == x)[..., None], e, y)
        moved = T - self.base.weight[self.tokens]  # what y lacks, so that y keeps its bias and starts as it was
        return y.index_add(-1, self.tokens, (x.to(T.dtype) @ moved.T).to(y.dtype))

    def merged(self) -> nn.Module:
        # a table of embeddings is large: copy all but it, and it only once
        W = self.base.weight.detach().index_copy(0, self.tokens, self.rows.weight.detach().to(self.base.weight.dtype))
        return copy.deepcopy(self.base, {id(self.base.weight): nn.Parameter(W, requires_grad=False)})

    def extra_repr(self) -> str:
        return f"tokens={len(self.tokens)}"


def chosen_rows(base: nn.Embedding | nn.Linear, tokens: Shaped[Tensor, " n"]) -> nn.Module:
    """A small copy of `base` with the chosen rows alone, float32 at least; a subclass that scales rows still does."""
    dtype = torch.promote_types(base.weight.dtype, torch.float32)
    rows = copy.deepcopy(base, {id(base.weight): nn.Parameter(base.weight.detach()[tokens].to(dtype))})
    rows.padding_idx = rows.bias = None  # a padding row would get no gradient; the bias stays the base's
    return rows


def trainable_tokens(model: nn.Module, tokens: Iterable[int]) -> nn.Module:
    """Train the rows of `tokens` in a transformers model's input embedding, and in the output head tied to it."""
    tokens = list(tokens)
    ends = [plain(m) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None]
    first, *others = [m for m in ends if m.weight is ends[0].weight]
    shared = TrainableTokens(first, tokens).rows
    names = {m: next(site for site, other in sites(model) if plain(other) is m) for m in [first, *others]}
    return inject(model, {re.escape(name): lambda b: TrainableTokens(b, tokens, shared) for name in names.values()})
