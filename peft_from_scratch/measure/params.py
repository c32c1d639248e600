"""How many numbers a model holds, how many of them train, how many a checkpoint of its adapters saves."""

from typing import NamedTuple

from torch import nn

from ..adapt import owned, trained
from ..adapter import base_parameters
from ..overview import packed


class Counts(NamedTuple):
    """Numbers, not bytes. `total` includes the adapters: `trained / total` is the share that the DoRA paper prints."""

    total: int
    trained: int
    saved: int


def count(model: nn.Module, name: str | None = None) -> Counts:
    """Count distinct parameters: one that is shared (a tied head) counts once. A weight in 4 bits counts as a number.

    `saved` counts all that `save_adapter` writes, frozen tensors and buffers too, so it can exceed `trained`; of
    several named adapters it counts those called `name`, or all.
    """
    in_place = [p for p in base_parameters(model).values() if p.requires_grad]
    return Counts(
        total=sum(p.numel() for p in model.parameters()) + packed(model).numbers,
        trained=sum(p.numel() for p in trained(model).values()),
        saved=sum(t.numel() for t in in_place + [t for *_, t in owned(model, name)]),
    )
