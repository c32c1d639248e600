"""Full fine-tuning: train every weight. What all other methods are measured against.

Trains all of the model's numbers, in place: the base is gone afterwards, so `remove` asks to load the model again.
There is nothing to merge: the model is plain already.
"""

from torch import nn

from ..card import Card

CARD = Card(
    name="Full fine-tuning",
    paper="the baseline",
    year=0,
    source="",
    category="selective",
    attaches="the whole model",
    count="all",
    merges=True,
)


def full(model: nn.Module) -> nn.Module:
    """Let every parameter of a plain model train."""
    return model.requires_grad_(True)
