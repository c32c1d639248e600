"""Methods that tell which sites share by their names: FROD and LILY."""

import torch
from torch import nn

from ...adapter import Adapter
from ...layers import weight_of
from ...methods.lowrank import frod
from ...methods.lowrank.frod_basis import own_part, role
from ...methods.mixture import lily
from ..kind import Kind, Link, Links, plainly, setting
from ..match import ends_with, exactly

Sites = dict[str, dict]

# FRoD ----------------------------------------------------------------------------------------------------------------


def frod_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    if not config["save_projection"]:
        _in_one_stack(sites)
    patterns = exactly(list(sites))
    own = {"sparsity": config["sparse_rate"], "ridge": config["regularization_alpha"]}
    own |= {"seed": config["projection_prng_key"], "dropout": config["frod_dropout"]}
    return {patterns: frod.shared(model, patterns, save_basis=config["save_projection"], **own)}


def _in_one_stack(sites: Sites) -> None:
    """ValueError where an encoder and a decoder have layers of one role and number: peft 0.21.2 makes the basis of the
    last of them alone, the page of all."""
    places = [(role(site), next((p for p in site.split(".") if p.isdigit()), site)) for site in sites]
    if len(set(places)) < len(places):
        raise ValueError(
            "FROD: save_projection=False leaves the basis to be found again, which peft does of half the layers here"
        )


def frod_bases(always: bool):
    """V and the places of S for each role, if they are part of the state (or `always`)."""

    def whole(made: dict[str, Adapter]) -> Links:
        links = {}
        for site, a in made.items():
            if always or a.basis.saved:
                links |= {f"frod_V.{role(site)}": Link(a.basis.V), f"frod_s_indices.{role(site)}": Link(a.basis.places)}
                links[f"frod_s_size.{role(site)}"] = Link(torch.tensor([len(a.basis.V)] * 2))
        return links

    return whole


def frod_rate(made: dict[str, Adapter]) -> dict:
    """The share of S that trains: the least that gives each role as many entries as it has."""
    counts = {(len(a.basis.V), a.basis.places.shape[1]) for a in made.values()}
    rate = max(k / n**2 for n, k in counts) * (1 + 1e-9)
    if any(k != max(1, int(rate * n**2)) for n, k in counts):
        raise ValueError(
            f"peft's FROD has one sparse_rate for all sites, and no one gives these (size, entries): {counts}"
        )
    return {"sparse_rate": rate, "save_projection": True, "progressbar": False}


FROD = Kind(
    "FROD",
    (frod.FRoD,),
    {
        "projection_prng_key": 0, "save_projection": True, "frod_dropout": 0.0, "sparse_rate": 0.01,
        "regularization_alpha": 1e-3,
    },
    plainly({"frod_lambda_l": "lam", "frod_lambda_s_values": "S"}),
    lambda a: {"frod_dropout": setting(a, "dropout")},
    shared=frod_shared,
    whole=frod_bases(False),
    whole_saved=frod_bases(True),
    whole_settings=frod_rate,
    settle=lambda a: a.U.copy_(own_part(weight_of(a.base), a.basis.V)[0]),
    harmless=("init_weights", "progressbar", "runtime_offload_base_weight"),
    bias_only="frod_only",
    conv1d=True,
)  # fmt: skip

# Lily ----------------------------------------------------------------------------------------------------------------


def lily_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    """The sites of one target are a family: one pattern for each."""
    targets = config["target_modules"]
    families: dict[str, list[str]] = {}
    for site in sites:
        fits = [t for t in targets if ends_with(site, [t])] if isinstance(targets, list) else [""]
        families.setdefault(fits[-1] if fits else site, []).append(site)
    patterns = tuple("|".join(exactly(family)) for family in families.values())
    return {patterns: lily.shared(model, patterns, config["r"], config["num_B"], config["stride_A"], config["scaling"])}


def lily_tensors(a: lily.Lily) -> Links:
    n, d_out, r = a.B.value.shape
    B = Link(a.B.value, lambda t: t.mT.reshape(n * r, d_out), lambda t: t.reshape(n, r, d_out).mT)
    return {"lily_A.weight": Link(a.A.value), "lily_B.weight": B, "lily_router.weight": Link(a.R)}


def lily_stride(made: dict[str, Adapter]) -> dict:
    """How many sites in a row share an A; ValueError where peft, which goes by last word and shape, would not."""
    families: dict[tuple, list[lily.Lily]] = {}
    for site, a in made.items():
        families.setdefault((site.rpartition(".")[2], *weight_of(a.base).shape), []).append(a)
    strides = range(1, max(map(len, families.values())) + 1)
    fits = [s for s in strides if all(_shares(family, s) for family in families.values())]
    if not fits:
        raise ValueError("these Lily adapters share A and B otherwise than sites of one name do: peft cannot hold that")
    return {"stride_A": fits[0], "target_modules": sorted({site.rpartition(".")[2] for site in made})}


def _shares(family: list[lily.Lily], stride: int) -> bool:
    same_B = all(a.B is family[0].B for a in family)
    As = [a.A for a in family]
    return (
        same_B
        and all((A is As[i // stride * stride]) for i, A in enumerate(As))
        and len(set(As)) == -(-len(As) // stride)
    )


LILY = Kind(
    "LILY",
    (lily.Lily,),
    {"r": 32, "stride_A": 1, "num_B": 2, "scaling": 1.0},
    lily_tensors,
    lambda a: {"r": a.rank, "num_B": len(a.R), "scaling": a.scale},
    shared=lily_shared,
    whole_settings=lily_stride,
    harmless=("init_weights",),
)

KINDS = (FROD, LILY)
