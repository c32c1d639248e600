"""Full fine-tuning: train every weight. What all other methods are measured against.

Trains all of the model's numbers, in place: the base is gone afterwards, so `remove` asks to load the model again.
There is nothing to merge: the model is plain already.

Paper: the baseline. Kind: selective. On: the whole model. Trains: all. Merges: yes.
"""

from torch import nn

from ...layers import refuse_4bit


def full(model: nn.Module) -> nn.Module:
    """Let every parameter of a plain model train."""
    refuse_4bit(model, "Full fine-tuning")
    return model.requires_grad_(True)
