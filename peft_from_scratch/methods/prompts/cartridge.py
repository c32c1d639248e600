"""Cartridge: a long text's cache, small and trained.  Eyuboglu et al. 2025, arXiv:2506.06266, section 3.

    attention(q, [Z_K; K], [Z_V; V])        Z: (n, 2 L k h), started from the cache of the text's first n tokens

A prefix (prefix_tuning.py) whose first `n_frozen` tokens stay as they are: many models rest their attention on the
first one, and moving it disturbs training (section 3.2). Trained so that the model answers as if it had read the
whole text: `distill_loss` compares it with the plain model that has (section 3.1). Starts as that after n tokens.

Kind: additive: soft prompt. On: the body of a model. Trains: (n_tokens - n_frozen) * 2 * layers * kv_heads * head_dim.
Merges: no. peft: CARTRIDGE.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import new_weight
from ...targets import Targets
from .body import check_tokens, embeddings_of
from .prefix_tuning import Prefix, around_cached, start_from_text


def cartridge(
    model: nn.Module, n_tokens: int = 128, text: Sequence[int] | None = None, n_frozen: int = 1, std: float = 1.0
) -> Targets:
    """What `inject(model, ...)` needs. `text`: the token ids of what it is to hold; without it Z is random."""
    check_tokens(n_tokens)
    start = None if text is None else start_from_text(model, text, n_tokens)
    return around_cached(model, lambda body: Cartridge(body, n_tokens, n_frozen, start, std))


class Cartridge(Prefix):
    """The body `base` with the cache rows `sink` (frozen) and `Z` (trained) before its text."""

    def __init__(self, base: nn.Module, n_tokens: int, n_frozen: int = 1, start: Tensor | None = None, std=1.0):
        super().__init__(base, n_tokens)
        if not 0 <= n_frozen < n_tokens:
            raise ValueError(f"n_frozen must be from 0 to n_tokens - 1 = {n_tokens - 1}, not {n_frozen}")
        Z = new_weight(embeddings_of(base), n_tokens, self.layout.width).detach()
        Z = nn.init.normal_(Z, std=std) if start is None else start.to(Z)
        self.register_buffer("sink", Z[:n_frozen].clone())
        self.Z = nn.Parameter(Z[n_frozen:].clone())

    def rows(self) -> Float[Tensor, "n width"]:
        return torch.cat([self.sink, self.Z])

    def extra_repr(self) -> str:
        return f"n_tokens={self.n_tokens}, n_frozen={len(self.sink)}"


def distill_loss(
    student: Float[Tensor, "rows length vocabulary"], teacher: Float[Tensor, "rows length vocabulary"]
) -> Float[Tensor, ""]:
    """Mean over positions of KL(teacher ‖ student): the student has the cartridge, the teacher has read the text."""
    p, log_q = teacher.detach().log_softmax(-1), student.log_softmax(-1)
    return F.kl_div(log_q, p, log_target=True, reduction="none").sum(-1).mean()
