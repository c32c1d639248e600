"""What all prompts at the input share: vectors P before the text's embeddings, around the body of a model.

    h = body([P; E(x)])[n:]        P: (n, width),  E(x): (length, width)

The output's first n positions are cut off, so that heads, labels and a classifier that looks for the last token see a
text of its own length: no label is needed for the prompt, and the first token is no target, as in the plain model. An
encoder's output keeps them, since its decoder reads them. With a cache the prompt goes in with the first input only.
BERT's pooler is inside the body and reads its first position, which is now the prompt's; a classifier outside
(RoBERTa's) reads the text's first. `cut = False` on the adapter keeps all positions, as a checkpoint of Hugging Face
peft needs there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import plain
from ...targets import Targets
from .body import Body, body_of, check_tokens, encoder_decoder, name_of, only
from .columns import is_empty, widen


class SoftPrompt(Body):
    """The body `base` with n_tokens vectors before its text; a method says in `prompt` what they are."""

    cut = True

    def __init__(self, base: nn.Module, n_tokens: int):
        super().__init__(base)
        check_tokens(n_tokens)
        self.n_tokens = n_tokens

    def prompt(self, rows: int) -> Float[Tensor, "_ n width"]:
        """The vectors, for each row of a batch or (1, n, width) for all."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **told: Any) -> Any:
        x = input_ids if inputs_embeds is None else inputs_embeds
        first = is_empty(told.get("past_key_values"))
        told = widen(told, self.n_tokens, x, first, self.base)
        if not first:
            return self.base(input_ids=input_ids, inputs_embeds=inputs_embeds, **told)
        x = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        P = self.prompt(len(x)).to(x.dtype).expand(len(x), -1, -1)
        out = self.base(inputs_embeds=torch.cat([P, x], 1), **told)
        return without_prompt(out, self.n_tokens) if self.cut else out

    def extra_repr(self) -> str:
        return f"n_tokens={self.n_tokens}" + ("" if self.cut else ", cut=False")


class CrossMask(Body):
    """A decoder whose encoder has a prompt: its mask over the encoder's output gets n columns more."""

    def __init__(self, base: nn.Module, n_tokens: int):
        super().__init__(base)
        self.n_tokens = n_tokens

    def forward(self, *args: Any, **told: Any) -> Any:
        if (mask := told.get("encoder_attention_mask")) is not None:
            told["encoder_attention_mask"] = torch.cat([mask.new_ones(len(mask), self.n_tokens), mask], 1)
        return self.base(*args, **told)

    def extra_repr(self) -> str:
        return f"n_tokens={self.n_tokens}"


def around_body(model: nn.Module, n_tokens: int, factory: Callable[[nn.Module], SoftPrompt]) -> Targets:
    """What `inject(model, ...)` needs to put a prompt of n_tokens around the model's body."""
    check_tokens(n_tokens)
    body = only(name_of(model, body_of(model)))
    if not encoder_decoder(model):
        return {body: factory}

    def encoder(base: nn.Module) -> SoftPrompt:
        made = factory(base)
        made.cut = False
        return made

    decoder = only(name_of(model, plain(model).get_decoder()))
    return {body: encoder, decoder: lambda base: CrossMask(base, n_tokens)}


def without_prompt(out: Any, n: int) -> Any:
    """A body's output without the hidden states of its first n positions."""
    out.last_hidden_state = out.last_hidden_state[:, n:]
    if out.get("hidden_states") is not None:
        out.hidden_states = tuple(h[:, n:] for h in out.hidden_states)
    return out


@contextmanager
def with_prompt_positions(model: nn.Module) -> Iterator[None]:
    """Inside the block the model's outputs keep the prompt's positions, for a loss that reads them."""
    cutting = [a for _, a in adapters(model) if isinstance(a, SoftPrompt) and a.cut]
    try:
        for a in cutting:
            a.cut = False
        yield
    finally:
        for a in cutting:
            a.cut = True
