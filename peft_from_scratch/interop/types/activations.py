"""Factors on activations, and skills that a task mixes: IA3 and POLY."""

import re

from ...adapter import Adapter
from ...methods.adapters.ia3 import IA3
from ...methods.mixture.poly import Poly
from ..kind import Kind, Link, Links, one_to_one, shaped, turned
from ..match import ends_with


def ia3_place(config: dict, site: str) -> dict:
    """Whether the site is a second matrix of a feed-forward block, whose input is scaled."""
    names = config["feedforward_modules"] or []
    found = re.fullmatch(names, site) is not None if isinstance(names, str) else ends_with(site, names)
    return {"feed_forward": found}


def ia3_sites(made: dict[str, Adapter]) -> dict:
    """Whole names: peft wants each of feedforward_modules among the target_modules."""
    return {"feedforward_modules": [site for site, a in made.items() if a.feed_forward], "target_modules": sorted(made)}


IA3_KIND = Kind(
    "IA3",
    (IA3,),
    {"feedforward_modules": None},
    lambda a: {"ia3_l": shaped(a.l, *((1, -1) if a.feed_forward else (-1, 1)))},
    lambda a: {},
    lambda config: lambda base: IA3(base, config["feed_forward"]),
    local=ia3_place,
    whole_settings=ia3_sites,
    harmless=("init_ia3_weights",),
    conv1d=True,
)


def poly_tensors(a: Poly) -> Links:
    routes = Link(a.Z, lambda t: t.flatten(1), lambda t: t.reshape(a.Z.shape))
    return {"poly_lora_A": turned(a.A), "poly_lora_B": turned(a.B), "poly_router.module_logits": routes}


POLY_NAMES = {"n_tasks": "n_tasks", "r": "rank", "n_skills": "n_skills", "n_splits": "n_splits"}
POLY = Kind(
    "POLY",
    (Poly,),
    {"n_tasks": 1, "r": 8, "n_skills": 4, "n_splits": 1},
    poly_tensors,
    **one_to_one(Poly, POLY_NAMES),
    harmless=("init_weights", "poly_type"),
)

KINDS = (IA3_KIND, POLY)
