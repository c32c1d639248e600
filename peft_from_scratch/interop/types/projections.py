"""Methods whose sites share a frozen random projection: VERA, PVERA, RANDLORA."""

import torch
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import weight_of
from ...methods.lowrank import pvera, randlora, vera
from ...methods.parts import layers_at
from ..kind import Kind, Link, Links, plainly, setting, shaped
from ..match import exactly

Sites = dict[str, dict]


def _first(made: dict[str, Adapter]) -> Adapter:
    return next(iter(made.values()))


# VeRA and PVeRA ------------------------------------------------------------------------------------------------------


def vera_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    own = {"d_initial": config["d_initial"], "dropout": config["vera_dropout"]}
    return {exactly(list(sites)): vera.shared(model, exactly(list(sites)), **_projection(config), **own)}


def pvera_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    own = {"d_initial": config["d_initial"], "dropout": config["pvera_dropout"]}
    own["sample_at_inference"] = config["sample_at_inference"]
    return {exactly(list(sites)): pvera.shared(model, exactly(list(sites)), **_projection(config), **own)}


def _projection(config: dict) -> dict:
    return {"rank": config["r"], "seed": config["projection_prng_key"], "saved": config["save_projection"]}


def projections(prefix: str, always: bool):
    """A and B, if they are part of the state (or `always`)."""

    def whole(made: dict[str, Adapter]) -> Links:
        p = _first(made).projection
        return {f"{prefix}A": Link(p.A), f"{prefix}B": Link(p.B)} if always or "A" in p.state_dict() else {}

    return whole


def vera_settings(dropout: str):
    def settings(a: vera.VeRA) -> dict:
        fields = {"r": a.projection.B.shape[1], "projection_prng_key": a.projection.seed, "save_projection": True}
        sampled = {"sample_at_inference": a.sample_at_inference} if isinstance(a, pvera.PVeRA) else {}
        return fields | sampled | {dropout: setting(a, "dropout")}

    return settings


VERA = Kind(
    "VERA",
    (vera.VeRA,),
    {"r": 256, "projection_prng_key": 0, "save_projection": True, "vera_dropout": 0.0, "d_initial": 0.1},
    plainly({"vera_lambda_b": "lambda_b", "vera_lambda_d": "lambda_d"}),
    vera_settings("vera_dropout"),
    shared=vera_shared,
    whole=projections("vera_", False),
    whole_saved=projections("vera_", True),
    harmless=("init_weights",),
    bias_only="vera_only",
    conv1d=True,
)

PVERA = Kind(
    "PVERA",
    (pvera.PVeRA,),
    {
        "r": 256, "projection_prng_key": 0, "save_projection": True, "pvera_dropout": 0.0, "d_initial": 0.1,
        "sample_at_inference": False,
    },
    plainly({"pvera_lambda_b": "lambda_b", "pvera_lambda_d": "lambda_d"}),
    vera_settings("pvera_dropout"),
    shared=pvera_shared,
    whole=projections("pvera_", False),
    whole_saved=projections("pvera_", True),
    harmless=("init_weights", "generator_seed"),
    bias_only="pvera_only",
    conv1d=True,
)  # fmt: skip

# RandLoRA ------------------------------------------------------------------------------------------------------------


def randlora_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    """peft draws the dense bases in bfloat16, and the sparse ones from the root of the smaller of the largest sizes."""
    patterns = exactly(list(sites))
    shapes = [weight_of(layer).shape for layer in layers_at(model, patterns)]
    small = min(max(sizes) for sizes in zip(*shapes, strict=True))
    sparsity = small**0.5 if config["very_sparse"] else 3.0 if config["sparse"] else None
    factory = randlora.shared(
        model,
        patterns,
        rank=config["r"],
        seed=config["projection_prng_key"],
        dtype=torch.bfloat16 if sparsity is None else torch.float32,
        sparsity=sparsity,
        saved=config["save_projection"],
        alpha=config["randlora_alpha"],
        dropout=config["randlora_dropout"],
        peft_order=True,
    )
    return {patterns: factory}


def bases(always: bool):
    """A and B, if they are part of the state (or `always`)."""

    def whole(made: dict[str, Adapter]) -> Links:
        b = _first(made).bases
        A = shaped(b.A, len(b.A), 1, b.A.shape[1])
        return {"randlora_A": A, "randlora_B": Link(b.B)} if always or "A" in b.state_dict() else {}

    return whole


def randlora_settings(a: randlora.RandLoRA) -> dict:
    if not a.peft_order:
        raise ValueError(
            "peft's RANDLORA lists its bases in another order: inject with peft_order=True to save for peft"
        )
    fields = {"r": len(a.bases.A), "randlora_alpha": a.alpha, "randlora_dropout": setting(a, "dropout")}
    return fields | {"save_projection": True}


def once(config: dict, made: dict, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the copies of the bases that peft writes for each site."""
    return {k: t for k, t in state.items() if not k.endswith((".randlora_A", ".randlora_B")) or ".model." not in k}


RANDLORA = Kind(
    "RANDLORA",
    (randlora.RandLoRA,),
    {
        "r": 32, "randlora_alpha": 640, "randlora_dropout": 0.0, "projection_prng_key": 0, "save_projection": True,
        "sparse": False, "very_sparse": False,
    },
    plainly({"randlora_lambda": "Lambda", "randlora_gamma": "Gamma"}),
    randlora_settings,
    shared=randlora_shared,
    whole=bases(False),
    whole_saved=bases(True),
    normal=once,
    harmless=("init_weights",),
    bias_only="randlora_only",
    conv1d=True,
)  # fmt: skip

KINDS = (VERA, PVERA, RANDLORA)
