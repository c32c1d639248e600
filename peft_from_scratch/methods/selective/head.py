"""Head only: a frozen network as a feature extractor, and a new last layer on it (a linear probe).

Trains the head's own numbers, d + 1 a class for a linear classifier. The head is an adapter like any other
(`Replaced`), so that it is saved, removed and swapped with the rest.
"""

from torch import nn

from ...adapt import inject
from ...adapter import Replaced
from ..card import Card

CARD = Card(
    name="Head only",
    paper="the other baseline",
    year=0,
    source="",
    category="selective",
    attaches="the head",
    count="d_in * d_out + d_out",
    merges=True,
    peft="modules_to_save",
)


def head_only(model: nn.Module, head: str = "classifier|score|classification_head") -> nn.Module:
    """Freeze `model` but for a trained copy of the modules that the pattern `head` names."""
    return inject(model, {head: Replaced})
