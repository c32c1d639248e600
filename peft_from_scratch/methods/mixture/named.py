"""The layers that a target names, with their names: for what is shared, or comes from a file, by name."""

from torch import nn

from ...adapter import plain
from ...adapter import sites as every
from ...targets import twins
from ..parts import Sites, layers_at


def named_layers(model: nn.Module, sites: Sites) -> dict[str, nn.Module]:
    """Name -> layer for all that `inject(model, {sites: ...})` would adapt, in the model's order; each layer once."""
    twin = twins(model)
    names = {twin[plain(m)]: site for site, m in reversed(list(every(model)))}
    return {names[layer]: layer for layer in layers_at(model, sites)}
