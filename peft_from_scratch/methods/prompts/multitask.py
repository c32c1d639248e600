"""Multitask prompt tuning: one prompt, turned for each task by a low-rank matrix.  Wang et al. 2023, arXiv:2303.02861,
section 3.1.

    P_t = P ∘ (U_t V_t)        P: (n, width) shared,  U_t: (n, r),  V_t: (r, width) for each task t;  r = 1 in the paper

Trained on many tasks, P is where a new one begins: `average_tasks` makes of all U_t and V_t the one of a new task.
U and V start as N(0, 0.02), so that the first prompts are nearly zero vectors (as in Hugging Face peft). Does not start
as the base.

    model = inject(model, multitask_prompt(model, n_tasks=3))
    with prompt_tasks(model, ids):            # one id a row, or an int for all; also around `generate`
        loss = model(**batch).loss

Kind: additive: soft prompt. On: the body of a model. Trains: n_tokens * width + n_tasks * rank * (n_tokens + width).
Merges: no. peft: MULTITASK_PROMPT_TUNING.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import new_weight
from ...targets import Targets
from .body import embeddings_of
from .prompt_tuning import Start, start_vectors
from .soft import SoftPrompt, around_body


def multitask_prompt(
    model: nn.Module, n_tasks: int, n_tokens: int = 20, rank: int = 1, start: Start = "random"
) -> Targets:
    """What `inject(model, ...)` needs; `start` of the shared P as in prompt tuning."""
    return around_body(model, n_tokens, lambda body: MultitaskPrompt(body, n_tasks, n_tokens, rank, start))


class MultitaskPrompt(SoftPrompt):
    """The body `base` with the prompt of each row's task before its text; `prompt_tasks` sets `ids`."""

    ids: Tensor | None = None

    def __init__(self, base: nn.Module, n_tasks: int, n_tokens: int = 20, rank: int = 1, start: Start = "random"):
        super().__init__(base, n_tokens)
        if n_tasks < 1 or rank < 1:
            raise ValueError(f"n_tasks and rank must be at least 1, not n_tasks={n_tasks} and rank={rank}")
        self.n_tasks = n_tasks
        table = embeddings_of(base)
        self.P = nn.Parameter(start_vectors(base, n_tokens, start))
        self.U = nn.init.normal_(new_weight(table, n_tasks, n_tokens, rank), std=0.02)
        self.V = nn.init.normal_(new_weight(table, n_tasks, rank, self.P.shape[1]), std=0.02)

    def prompt(self, rows: int) -> Float[Tensor, "_ n width"]:
        if self.ids is None:
            raise ValueError("multitask prompt tuning needs the task of each row: run inside `with prompt_tasks(...)`")
        if rows % len(self.ids):
            raise ValueError(f"{len(self.ids)} task ids do not fit a batch of {rows} rows: give one id a row")
        ids = self.ids.to(self.P.device).repeat_interleave(rows // len(self.ids))  # beams repeat each row
        return self.P * (self.U[ids] @ self.V[ids])

    @torch.no_grad()
    def average_tasks(self) -> None:
        """Put the mean of all tasks' U and V in the place of each: where a new task begins."""
        self.U.copy_(self.U.mean(0, keepdim=True).expand_as(self.U))
        self.V.copy_(self.V.mean(0, keepdim=True).expand_as(self.V))

    def extra_repr(self) -> str:
        return f"n_tasks={self.n_tasks}, {super().extra_repr()}"


@contextmanager
def prompt_tasks(model: nn.Module, ids: int | Shaped[Tensor, " rows"]) -> Iterator[nn.Module]:
    """Inside the block row i of a batch belongs to task ids[i]; an int: every row to that task."""
    users = [a for _, a in adapters(model) if isinstance(a, MultitaskPrompt)]
    if not users:
        raise ValueError("this model has no multitask prompt: leave prompt_tasks out")
    ids, n_tasks = torch.as_tensor(ids).reshape(-1), min(a.n_tasks for a in users)
    if not len(ids) or ids.is_floating_point() or ids.min() < 0 or ids.max() >= n_tasks:
        raise ValueError(f"task ids must be whole numbers from 0 to {n_tasks - 1}, not {ids.tolist()}")
    before = [a.ids for a in users]
    try:
        for a in users:
            a.ids = ids
        yield model
    finally:
        for a, old in zip(users, before, strict=True):
            a.ids = old
