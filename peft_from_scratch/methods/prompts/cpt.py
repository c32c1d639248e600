"""CPT: in-context examples whose embeddings may move a little.  Blau et al. 2024, arXiv:2410.17222, section 3.

    h = body([E(c) + δ; E(x)])        c: the n tokens of the context,  δ: (n, width) zero at the start,  ‖δ_i‖ <= ε_i

A context is examples with their answers, so its tokens have kinds, numbered 4 k + kind for its k-th example: 1 a
template's word before the input, 2 the input, 3 a template's word before the answer, 4 (k+1) the answer itself. Answers
stay as they are, the input may move by ε, a template by ε_format (both in units of the length of a vector of 2048
numbers, so that they mean the same at every width). δ is brought back into its ball before every use.
Starts as the plain model that reads the context.

`cpt_loss` (section 3.3) asks for the answers in the context too, older ones counting less. For decoder-only models.

Kind: additive: soft prompt. On: the body of a decoder-only model. Trains: n_tokens * width. Merges: no. peft: CPT.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...adapt import adapters
from ...targets import Targets
from .body import embeddings_of, encoder_decoder, new_vectors
from .soft import SoftPrompt, around_body, with_prompt_positions


def cpt(
    model: nn.Module,
    context: Sequence[int],
    kinds: Sequence[int] | None = None,
    epsilon: float = 0.1,
    format_epsilon: float = 0.1,
) -> Targets:
    """What `inject(model, ...)` needs: the context's token ids and their kinds (by default all are templates)."""
    if encoder_decoder(model):
        raise ValueError("CPT continues a context, which takes a decoder-only model")
    return around_body(model, len(context), lambda body: CPT(body, context, kinds, epsilon, format_epsilon))


class CPT(SoftPrompt):
    """The body `base` with the context E(c) + δ before its text."""

    def __init__(
        self,
        base: nn.Module,
        context: Sequence[int],
        kinds: Sequence[int] | None = None,
        epsilon: float = 0.1,
        format_epsilon: float = 0.1,
    ):
        super().__init__(base, len(context))
        kinds = [1] * len(context) if kinds is None else list(kinds)
        if len(kinds) != len(context) or epsilon <= 0 or format_epsilon <= 0:
            raise ValueError(f"{len(context)} tokens need as many kinds (not {len(kinds)}) and epsilons above 0")
        self.delta = new_vectors(base, len(context))
        device = self.delta.device
        self.register_buffer("context", torch.as_tensor(list(context), device=device))
        self.register_buffer("kinds", torch.as_tensor(kinds, device=device))
        self.register_buffer("E", embeddings_of(base)(self.context).detach().to(self.delta))
        unit = math.sqrt(self.delta.shape[1] / 2048)
        by_kind = self.delta.new_tensor([0.0, format_epsilon, epsilon, format_epsilon]) * unit  # 0: an answer
        self.register_buffer("ball", torch.where(self.kinds > 0, by_kind[self.kinds % 4], 0.0)[:, None])
        self.epsilon, self.format_epsilon = epsilon, format_epsilon

    def prompt(self, rows: int) -> Float[Tensor, "1 n width"]:
        self.project()
        moves = (self.ball > 0).to(self.delta)  # an answer gets no gradient either
        return (self.E + self.delta * moves)[None]

    @torch.no_grad()
    def project(self) -> None:
        """Bring every δ_i back into its ball; in place, as after an optimiser's step."""
        length = self.delta.norm(dim=1, keepdim=True)
        outside = length > self.ball * (1 + 1e-6)  # one on the sphere stays, or rounding would move it every time
        self.delta.copy_(torch.where(outside, self.delta * (self.ball / length), self.delta))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, epsilon={self.epsilon:g}, format_epsilon={self.format_epsilon:g}"


def cpt_loss(
    model: nn.Module,
    input_ids: Int[Tensor, "rows length"],
    attention_mask: Int[Tensor, "rows length"] | None = None,
    labels: Int[Tensor, "rows length"] | None = None,
    kinds: Int[Tensor, "rows length"] | None = None,
    decay: float = 1.0,
) -> Float[Tensor, ""]:
    """The mean loss over all answers' tokens; each earlier answer of a row weighs `decay` of the one after it.

    `kinds` of the text as for the context (by default all of it is one answer); a label -100 is left out.
    """
    adapter = next((a for _, a in adapters(model) if isinstance(a, CPT)), None)
    if adapter is None:
        raise ValueError("this model has no CPT prompt: inject(model, cpt(model, ...)) first")
    with with_prompt_positions(model):
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    labels = input_ids if labels is None else labels
    kinds = torch.full_like(labels, 4) if kinds is None else kinds
    rows = len(labels)
    kinds = torch.where(kinds > 0, kinds + adapter.kinds.max(), 0)  # the text's examples come after the context's
    kinds = torch.cat([adapter.kinds.expand(rows, -1), kinds], 1)[:, 1:]
    labels = torch.cat([adapter.context.expand(rows, -1), labels], 1)[:, 1:]
    is_answer = (kinds > 0) & (kinds % 4 == 0) & (labels != -100)
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels.flatten(), reduction="none")
    return (losses.view_as(labels) * answer_weights(kinds, decay))[is_answer].mean()


def answer_weights(kinds: Int[Tensor, "rows n"], decay: float) -> Float[Tensor, "rows n"]:
    """1 for a row's last answer, decay for the one before it, decay² for the one before that, ..."""
    is_answer = (kinds > 0) & (kinds % 4 == 0)
    number = torch.where(is_answer, kinds // 4, 0)
    there = F.one_hot(number).amax(1)
    later = there.flip(1).cumsum(1).flip(1) - there  # of each answer: how many come after it
    return torch.where(is_answer, decay ** later.gather(1, number).float(), 1.0)
