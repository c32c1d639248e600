"""The peft types that this package has, by name."""

from ..kind import Kind
from . import (
    activations,
    adalora,
    families,
    lora,
    products,
    projections,
    rotation,
    selective,
    subspaces,
    transform,
    vectors,
    xlora,
)

PAGES = (
    activations,
    adalora,
    families,
    lora,
    products,
    projections,
    rotation,
    selective,
    subspaces,
    transform,
    vectors,
    xlora,
)
KINDS: dict[str, Kind] = {kind.peft_type: kind for page in PAGES for kind in page.KINDS}
NOT_HERE = {
    "ADAMSS": "its files do not hold which output belongs to which cluster",
}


def kind_of(config: dict) -> Kind:
    """The type that a config names. ValueError for one that this package does not read, with those it does."""
    given = config.get("peft_type")
    name = str(getattr(given, "value", given)).upper()
    if name not in KINDS:
        why = f" ({NOT_HERE[name]})" if name in NOT_HERE else ""
        raise ValueError(f"peft_type {given!r} cannot be read here{why}; these can: {', '.join(sorted(KINDS))}")
    return KINDS[name]
