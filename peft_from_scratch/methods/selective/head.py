"""Head only: a frozen network as a feature extractor, and a new last layer on it (a linear probe).

The head is an adapter like any other (`Replaced`), so that it is saved, removed and swapped with the rest.

Paper: the other baseline. Kind: selective. On: the head. Trains: d_in * d_out + d_out. Merges: yes. peft:
modules_to_save.
"""

from torch import nn

from ...adapt import inject
from ...adapter import Replaced


def head_only(model: nn.Module, head: str = "classifier|score|classification_head") -> nn.Module:
    """Freeze `model` but for a trained copy of the modules that the pattern `head` names."""
    return inject(model, {head: Replaced})
