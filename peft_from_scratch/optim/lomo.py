"""LOMO: full fine-tuning with SGD, whose optimiser keeps nothing.  Lv et al. 2023, arXiv:2306.09782, section 3.

    W ← W - η g        within the backward pass: as soon as a weight's gradient is there it is used and thrown away

Neither states nor gradients of the whole model ever exist: what full fine-tuning adds to the weights and activations is
one weight's gradient. The norm of all gradients is known when they are gone: clipping costs a second backward pass.

    optimizer = lomo(model, lr=1e-3);   loss.backward()            # or optimizer.step(loss, clip=1.0)

Kind: memory. On: every weight. Trains: everything. Merges: yes.
"""

from torch import nn
from torch.optim import SGD

from ..adapt import trained
from .in_backward import InBackward


def lomo(model: nn.Module, lr: float, weight_decay: float = 0.0) -> InBackward:
    """Plain SGD inside the backward pass of what trains in `model`."""
    return InBackward(trained(model).values(), lambda group: SGD(group, lr=lr, weight_decay=weight_decay))
