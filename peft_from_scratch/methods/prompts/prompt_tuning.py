"""Prompt tuning: train a few vectors before the text.  Lester, Al-Rfou and Constant 2021, arXiv:2104.08691, section 2.

    h = body([P; E(x)])        P: (n, width) trained,  E(x): (length, width) frozen embeddings

P starts (section 2.1) at random, uniform in ±0.5; as the embeddings of n tokens drawn from the 5000 first of the
vocabulary, which are the common ones; or as those of a text of your own, repeated or cut to n.
Trains n width numbers in all. Does not start as the base: the text already sees P.

    model = inject(model, prompt_tuning(model, n_tokens=20, start=tokenizer("Is this review positive?").input_ids))

In an encoder-decoder model P stands before the encoder's text (Hugging Face peft also makes one for the decoder there
and never uses it). soft.py says how masks, positions, labels and `generate` go on.

Kind: additive: soft prompt. On: the body of a model. Trains: n_tokens * width. Merges: no. peft: PROMPT_TUNING.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...targets import Targets
from .body import embeddings_of, new_vectors
from .soft import SoftPrompt, around_body

Start = str | Sequence[int]


def prompt_tuning(model: nn.Module, n_tokens: int = 20, start: Start = "random") -> Targets:
    """What `inject(model, ...)` needs. `start`: "random", "vocabulary", or the token ids of a text."""
    return around_body(model, n_tokens, lambda body: PromptTuning(body, n_tokens, start))


class PromptTuning(SoftPrompt):
    """The body `base` with the trained vectors P before its text."""

    def __init__(self, base: nn.Module, n_tokens: int = 20, start: Start = "random"):
        super().__init__(base, n_tokens)
        self.P = nn.Parameter(start_vectors(base, n_tokens, start))

    def prompt(self, rows: int) -> Float[Tensor, "1 n width"]:
        return self.P[None]


@torch.no_grad()
def start_vectors(body: nn.Module, n: int, start: Start, common: int = 5000) -> Float[Tensor, "n width"]:
    """Where P begins. ValueError for a word that is no start, and for a text without tokens."""
    P, table = new_vectors(body, n), embeddings_of(body)
    if start == "random":
        return nn.init.uniform_(P, -0.5, 0.5)
    if start == "vocabulary":
        ids = torch.randint(min(common, len(table.weight)), (n,))
    elif isinstance(start, str) or not len(start):
        raise ValueError(f"start must be 'random', 'vocabulary' or the token ids of a text, not {start!r}")
    else:
        ids = torch.as_tensor(start).reshape(-1)
        ids = ids.repeat(-(-n // len(ids)))[:n]
    return P + table(ids.to(table.weight.device))
