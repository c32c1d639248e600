"""Top-k layers: train the last k transformer layers in full, and nothing below them.

Nothing below the lowest trained layer needs a gradient, so backward stops there: with all L layers frozen but k, a step
costs 1/3 + 2/3 k/L of full fine-tuning (forward is a third of it), which no method that adapts every layer can reach.
Each layer is `Replaced` by a trained copy, so it is saved, removed and switched like any adapter, and merges; the price
is one more copy of k layers in memory.

Paper: the classic. Kind: selective. On: whole transformer layers. Trains: k * everything. Merges: yes. peft:
modules_to_save.
"""

import re

from torch import nn

from ...adapt import inject
from ...adapter import Replaced, plain, sites


def top_k(model: nn.Module, k: int = 1, head: str | None = None, stack: str | None = None) -> nn.Module:
    """Train the last k layers of the list named `stack`, and in full the modules that the pattern `head` names.

    Without a name it is the longest list of like layers (of two as long, the later: T5's decoder). `head` should name
    all that stands above the layers: a pooler, a last norm, a classifier.
    """
    stack = layer_stack(model) if stack is None else stack
    layers = plain(dict(sites(model)).get(stack))
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{stack!r} is not a list of layers in this model")
    if not 1 <= k <= len(layers):
        raise ValueError(f"k must be from 1 to {len(layers)}, the layers of {stack!r}, not {k}")
    # whole names: layer 1 must not bring layers 10 and 11 with it
    last = tuple(re.escape(f"{stack}.{i}") for i in range(len(layers) - k, len(layers)))
    return inject(model, {last: Replaced} | ({head: Replaced} if head else {}))


def layer_stack(model: nn.Module) -> str:
    """The name of the longest list of layers of one class, the last of those; a list in a list (experts) is none."""
    lists = [(site, plain(m)) for site, m in sites(model) if isinstance(plain(m), nn.ModuleList)]
    outer = [(site, m) for site, m in lists if not any(site.startswith(f"{other}.") for other, _ in lists)]
    alike = [(site, m) for site, m in outer if len({type(plain(layer)) for layer in m}) == 1]
    if not alike:
        raise ValueError("this model has no list of like layers: say which modules to train with inject and Replaced")
    return max(reversed(alike), key=lambda found: len(found[1]))[0]
