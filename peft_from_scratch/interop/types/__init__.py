"""The peft types that this package has, by name."""

from ..kind import Kind
from . import (
    activations,
    adalora,
    adamss,
    adaption,
    cpt,
    families,
    lora,
    prefixes,
    products,
    projections,
    prompts,
    rotation,
    selective,
    shadow,
    subspaces,
    transform,
    vectors,
    xlora,
)

PAGES = (
    activations,
    adalora,
    adamss,
    adaption,
    cpt,
    families,
    lora,
    prefixes,
    products,
    projections,
    prompts,
    rotation,
    selective,
    shadow,
    subspaces,
    transform,
    vectors,
    xlora,
)
KINDS: dict[str, Kind] = {kind.peft_type: kind for page in PAGES for kind in page.KINDS}


def kind_of(config: dict) -> Kind:
    """The type that a config names. ValueError for one that this package does not read, with those it does."""
    given = config.get("peft_type")
    name = str(getattr(given, "value", given)).upper()
    if name not in KINDS:
        raise ValueError(f"peft_type {given!r} cannot be read here; these can: {', '.join(sorted(KINDS))}")
    return KINDS[name]
