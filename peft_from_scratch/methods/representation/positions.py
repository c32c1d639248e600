"""Which positions of a text a representation method changes: a layer cannot see where a prompt begins or ends.

    with at(model, first_and_last(attention_mask, first=4, last=4)):
        loss = model(**batch).loss

Inside `generate` the mask of the prompt serves all steps: tokens that come after it are left alone, as in pyreft. With
gradient checkpointing `backward` belongs inside the block as well: it runs the layers again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter


class AtPositions(Adapter):
    """An adapter of hidden states: everywhere, or where `at` says."""

    chosen: Tensor | None = None  # (batch, length)

    def here(self, h: Float[Tensor, "batch length width"]) -> Bool[Tensor, "batch length 1"]:
        """`chosen` for these hidden states. Beams repeat rows; with a cache a step has new tokens only."""
        rows, length = h.shape[:2]
        mask = self.chosen.to(h.device)
        if h.dim() != 3 or rows % len(mask):
            raise ValueError(f"positions of {len(mask)} rows do not fit hidden states {tuple(h.shape)}")
        mask = mask.repeat_interleave(rows // len(mask), 0)
        if length == 1 and mask.shape[1] > 1:  # after the prompt
            return torch.zeros_like(mask[:, :1])[..., None]
        if length < mask.shape[1]:
            raise ValueError(f"{mask.shape[1]} positions were chosen and there are {length}: use the batch's own mask")
        return nn.functional.pad(mask, (0, length - mask.shape[1]))[..., None]


def first_and_last(mask: Shaped[Tensor, "rows n"], first: int, last: int) -> Bool[Tensor, "rows n"]:
    """The first and the last so many tokens of each row, wherever its padding is; `mask`: the attention mask."""
    if first < 0 or last < 0 or first + last == 0:
        raise ValueError(f"first and last count positions, at least one in all, not {first} and {last}")
    real = mask.bool()
    rank = real.cumsum(1)  # 1 at a row's first token
    return real & ((rank <= first) | (rank > rank[:, -1:] - last))


@contextmanager
def at(model: nn.Module, chosen: Bool[Tensor, "batch length"]) -> Iterator[nn.Module]:
    """Inside the block only these positions are changed. ValueError for a model without such adapters."""
    users = [a for _, a in adapters(model) if isinstance(a, AtPositions)]
    if not users:
        raise ValueError("no adapter of this model changes chosen positions: leave `at` out")
    before = [a.chosen for a in users]
    try:
        for a in users:
            a.chosen = chosen
        yield model
    finally:
        for a, old in zip(users, before, strict=True):
            a.chosen = old
