"""aLoRA: LoRA that wakes up at a word.  Greenewald et al. 2025, arXiv:2504.12397, section 3.

    y_t = W x_t + b + s B A x_t   from the last occurrence of the invocation tokens on,   y_t = W x_t + b   before it

What stands before the invocation is read by the base model alone, so that its keys and values in a cache serve every
adapter of the same base. A row without the invocation gets the base. Where it is cannot be seen from inside a layer:
run the model inside `with invoked(model, input_ids):`, which also covers `generate`.
B = 0: starts as the base. Cannot be merged: there are two weights.

Kind: reparametrized. On: Linear, Conv1D, Embedding. Trains: rank * (d_in + d_out). Merges: no. peft:
alora_invocation_tokens.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from .lora import LoRA

NEVER = 2**62  # a position that no row reaches


class Invocation:
    """The invocation tokens, shared by the adapters of a model, and where each row of the current input calls them."""

    def __init__(self, tokens: Sequence[int]):
        if not tokens:
            raise ValueError("aLoRA needs at least one invocation token: give the ids of the words that call it")
        self.tokens = list(tokens)
        self.starts: Tensor | None = None  # (batch,) positions
        self.length = 0  # of the input they were found in

    def find(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
        """Where the last occurrence starts in each row; NEVER where there is none."""
        n = len(self.tokens)
        if ids.shape[1] < n:
            return torch.full_like(ids[:, 0], NEVER)
        hit = (ids.unfold(1, n, 1) == ids.new_tensor(self.tokens)).all(-1)
        last = torch.where(hit, torch.arange(hit.shape[1], device=ids.device), -1).amax(1)
        return torch.where(last < 0, NEVER, last)


@contextmanager
def invoked(model: nn.Module, input_ids: Int[Tensor, "batch length"]) -> Iterator[None]:
    """Inside the with-block, aLoRA adapters know where these rows call them; also for the tokens generated after."""
    found = {a.invocation for _, a in adapters(model) if isinstance(a, ALoRA)}
    before = {invocation: (invocation.starts, invocation.length) for invocation in found}
    try:
        for invocation in found:
            invocation.starts, invocation.length = invocation.find(input_ids), input_ids.shape[1]
        yield
    finally:
        for invocation, values in before.items():
            invocation.starts, invocation.length = values


class ALoRA(LoRA):
    """LoRA at and after the invocation only; give all adapters of a model the same `Invocation`."""

    def __init__(
        self,
        base: nn.Module,
        invocation: Invocation,
        rank: int = 32,
        alpha: float = 32,
        dropout: float = 0.0,
        rslora: bool = False,
    ):
        if isinstance(base, nn.Conv2d):
            raise ValueError("aLoRA adapts layers that see a sequence of tokens: leave Conv2d out of the targets")
        super().__init__(base, rank, alpha, dropout, rslora)
        self.invocation = invocation

    def forward(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "batch length d_out"]:
        if self.invocation.starts is None:
            raise RuntimeError("aLoRA does not know where it is called: run inside `with invoked(model, input_ids):`")
        y = self.base(x)
        return torch.where(self.awake(y), y + self.learned(self.dropout(x)).to(y.dtype), y)

    def awake(self, y: Float[Tensor, "batch length d_out"]) -> Bool[Tensor, "batch length 1"]:
        """Which positions are at or after the call. With a cache y holds only the last ones; beams repeat each row."""
        starts, length = self.invocation.starts, self.invocation.length
        if y.dim() != 3 or y.shape[0] % len(starts):
            raise RuntimeError(
                f"aLoRA was told of {len(starts)} rows and sees {tuple(y.shape)}: give it these input_ids"
            )
        starts = starts.repeat_interleave(y.shape[0] // len(starts))
        positions = torch.arange(y.shape[1], device=y.device) + max(length - y.shape[1], 0)
        return (positions >= starts[:, None])[..., None]

    def merged(self) -> nn.Module:
        raise NotImplementedError("aLoRA has one weight before its invocation and another after: it cannot be merged")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, invocation={self.invocation.tokens}"
