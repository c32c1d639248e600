"""Rotations: OFT, BOFT, HRA, ROAD."""

import torch
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import weight_of
from ...methods.maths import skew
from ...methods.rotation.boft import BOFT
from ...methods.rotation.hra import HRA
from ...methods.rotation.oft import OFT
from ...methods.rotation.road import RoAd
from ...targets import Factory
from ..kind import Kind, Link, Links, minus, one_to_one, plainly, shaped

# OFT -----------------------------------------------------------------------------------------------------------------


def oft(config: dict) -> Factory:
    terms = config["num_cayley_neumann_terms"] if config["use_cayley_neumann"] else 0
    epsilon = config["eps"] if config["coft"] else None

    def make(base: nn.Module) -> OFT:
        size = config["oft_block_size"] or _width(base) // config["r"]
        return OFT(base, size, terms, config["block_share"], epsilon)

    if bool(config["oft_block_size"]) == bool(config["r"]):
        raise ValueError("OFT: either r (the number of blocks) or oft_block_size must be 0")
    return make


def _width(base: nn.Module) -> int:
    """Of what is turned: the input, in an embedding the output."""
    return weight_of(base).shape[0 if isinstance(base, nn.Embedding) else 1]


def oft_tensors(a: OFT) -> Links:
    """peft's exact R is the inverse of its own series: there the sign of Q changes."""
    name = "oft_embedding_R.weight" if isinstance(a.base, nn.Embedding) else "oft_R.weight"
    return {name: Link(a.Q) if a.terms else minus(a.Q)}


def oft_settings(a: OFT) -> dict:
    series = {"use_cayley_neumann": bool(a.terms), "num_cayley_neumann_terms": a.terms or 5}
    ball = {"coft": False} if a.epsilon is None else {"coft": True, "eps": a.epsilon}
    return {"block_share": a.shared} | series | ball


def oft_blocks(made: dict[str, Adapter]) -> dict:
    """The size of the blocks, where it is one for all sites, or their number."""
    sizes = {a.block_size for a in made.values()}
    numbers = {_width(a.base) // a.block_size for a in made.values()}
    if len(sizes) > 1 and len(numbers) > 1:
        raise ValueError(
            f"peft's OFT has one size or one number of blocks for all sites, and these have {sorted(sizes)}"
        )
    return {"r": 0, "oft_block_size": sizes.pop()} if len(sizes) == 1 else {"r": numbers.pop(), "oft_block_size": 0}


OFT_KIND = Kind(
    "OFT",
    (OFT,),
    {
        "r": 0, "oft_block_size": 32, "block_share": False, "coft": False, "eps": 6e-5, "use_cayley_neumann": True,
        "num_cayley_neumann_terms": 5,
    },
    oft_tensors,
    oft_settings,
    oft,
    whole_settings=oft_blocks,
    harmless=("init_weights",),
    refused=("module_dropout",),
    bias_only="oft_only",
)  # fmt: skip

# BOFT ----------------------------------------------------------------------------------------------------------------


def boft(config: dict) -> Factory:
    size, number = config["boft_block_size"], config["boft_block_num"]
    if bool(size) == bool(number):
        raise ValueError("BOFT: either boft_block_size or boft_block_num must be 0")
    factors, dropout = config["boft_n_butterfly_factor"], config["boft_dropout"]
    return lambda base: BOFT(base, size or weight_of(base).shape[1] // number, factors, dropout)


def boft_tensors(a: BOFT) -> Links:
    """peft keeps all numbers D of a block and turns by (D - Dᵀ) / 2, with the other sign."""
    b, rows = a.block_size, torch.triu_indices(a.block_size, a.block_size, 1)

    def out(Q: Tensor) -> Tensor:
        return -skew(Q, b).unflatten(0, (a.factors, -1))

    def back(D: Tensor) -> Tensor:
        return -(D - D.mT).flatten(0, 1)[:, *rows] / 2

    return {"boft_R": Link(a.Q, out, back), "boft_s": shaped(a.s, -1, 1)}


BOFT_KIND = Kind(
    "BOFT",
    (BOFT,),
    {"boft_block_size": 4, "boft_block_num": 0, "boft_n_butterfly_factor": 1, "boft_dropout": 0.0},
    boft_tensors,
    lambda a: {
        "boft_block_size": a.block_size, "boft_block_num": 0, "boft_n_butterfly_factor": a.factors,
        "boft_dropout": a.dropout,
    },
    boft,
    harmless=("init_weights",),
    bias_only="boft_only",
)  # fmt: skip

HRA_KIND = Kind(
    "HRA",
    (HRA,),
    {"r": 8, "apply_GS": False},
    plainly({"hra_u": "U"}),
    **one_to_one(HRA, {"r": "rank", "apply_GS": "orthogonal"}),
    harmless=("init_weights",),
    bias_only="hra_only",
)

ROAD = Kind(
    "ROAD",
    (RoAd,),
    {"variant": "road_1", "group_size": 64},
    lambda a: {"road_theta": shaped(a.theta, -1), "road_alpha": shaped(a.alpha, -1)},
    lambda a: {"variant": f"road_{a.variant}", "group_size": a.group_size},
    lambda config: lambda base: RoAd(base, int(config["variant"].removeprefix("road_")), config["group_size"]),
    harmless=("init_weights",),
)

KINDS = (OFT_KIND, BOFT_KIND, HRA_KIND, ROAD)
