"""The pairs (A, B) of a model's low-rank adapters, for optimisers that treat the two differently."""

from typing import NamedTuple

from torch import nn

from ..adapt import adapters
from ..adapter import Adapter


class Pair(NamedTuple):
    """The two factors of one adapter's change s B A."""

    adapter: Adapter
    A: nn.Parameter
    B: nn.Parameter


def pairs(model: nn.Module, embeddings: bool = True) -> list[Pair]:
    """Every adapter with two matrices called A and B of which B trains. ValueError where there is none.

    `embeddings=False` leaves embeddings out, where the parts are exchanged: A starts at zero and B at random.
    """
    found = [Pair(a, a.A, a.B) for _, a in adapters(model) if _is_pair(a)]
    if not embeddings:
        found = [pair for pair in found if not isinstance(pair.adapter.base, nn.Embedding)]
    if not found:
        raise ValueError("no adapter of this model has an A and a B that train: call inject(model, {...: LoRA}) first")
    return found


def _is_pair(adapter: Adapter) -> bool:
    A, B = (adapter._parameters.get(key) for key in "AB")
    return A is not None and B is not None and A.dim() == B.dim() == 2 and B.requires_grad
