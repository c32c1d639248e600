"""Changes in a subspace or of a fixed size: DEFT, DELORA, MISS, PEANUT, PSOFT."""

from ...methods.lowrank.deft import DEFT
from ...methods.lowrank.delora import DeLoRA
from ...methods.lowrank.miss import MiSS
from ...methods.lowrank.peanut import PEANuT
from ...methods.lowrank.psoft import PSOFT
from ...targets import Factory
from ..kind import Kind, Link, Links, one_to_one, plainly, setting

DEFT_KIND = Kind(
    "DEFT",
    (DEFT,),
    {"r": 8, "alpha": None, "decomposition_method": "relu", "para": False, "deft_dropout": 0.0},
    plainly({"deft_P": "P", "deft_R": "R"}),
    **one_to_one(
        DEFT,
        {
            "r": "rank", "alpha": "alpha", "decomposition_method": "projection", "para": "remove_only",
            "deft_dropout": "dropout",
        },
    ),
    harmless=("init_weights", "init_scale"),
    bias_only="deft_only",
    conv1d=True,
)  # fmt: skip


def delora(config: dict) -> Factory:
    arguments = dict(rank=config["r"], strength=config["delora_lambda"], dropout=config["module_dropout"])
    return lambda base: DeLoRA(base, start="zero", **arguments)


def delora_settings(a: DeLoRA) -> dict:
    if a.start != "zero":
        raise ValueError(
            "peft's DELORA starts at B = 0 and takes nothing off: inject DeLoRA with start='zero' to save it for peft"
        )
    return {"r": a.rank, "module_dropout": setting(a, "dropout")}


DELORA = Kind(
    "DELORA",
    (DeLoRA,),
    {"r": 8, "delora_lambda": 15, "module_dropout": 0.0},
    plainly({"delora_A": "A", "delora_B": "B", "delora_lambda": "lam", "delora_w_norm": "norms"}),
    delora_settings,
    delora,
    harmless=("init_weights",),
    patterns={"r": "rank_pattern", "delora_lambda": "lambda_pattern"},
    bias_only="delora_only",
)


def miss(config: dict) -> Factory:
    mini = config["mini_r"] if config["init_weights"] == "mini" else 0
    bat = config["init_weights"] == "bat"
    return lambda base: MiSS(base, config["r"], mini, bat, config["miss_dropout"])


def miss_settings(a: MiSS) -> dict:
    form = "bat" if a.bat else "mini" if a.mini else True
    return {"r": a.rank, "mini_r": a.mini or 1, "init_weights": form, "miss_dropout": setting(a, "dropout")}


MISS = Kind(
    "MISS",
    (MiSS,),
    {"r": 64, "mini_r": 1, "init_weights": True, "miss_dropout": 0.0},
    plainly({"miss_block": "D"}),
    miss_settings,
    miss,
    bias_only="miss_only",
)


def peanut_tensors(a: PEANuT) -> Links:
    links = plainly({"peanut_A.weight": "A", "peanut_B.weight": "B"})(a)
    links |= {f"peanut_encoders.{i}.weight": Link(E) for i, E in enumerate(a.E)}
    return links | {f"peanut_decoders.{i}.weight": Link(D) for i, D in enumerate(a.D)}


PEANUT = Kind(
    "PEANUT",
    (PEANuT,),
    {"r": 32, "depth": 0, "act_fn": "relu", "scaling": 1.0},
    peanut_tensors,
    **one_to_one(PEANuT, {"r": "rank", "depth": "depth", "act_fn": "activation", "scaling": "scale"}),
    harmless=("init_weights",),
)


def psoft(config: dict) -> Factory:
    both, known = ("psoft_mag_a", "psoft_mag_b"), ("psoft_init", "pissa_init")
    if config[both[0]] != config[both[1]] or not config["psoft_orth"]:
        raise ValueError(
            "PSOFT: this package has psoft_mag_a and psoft_mag_b together or not at all, and psoft_orth=True"
        )
    if config["psoft_svd"] != "full" or config["ab_svd_init"] not in known:
        raise ValueError(
            f"PSOFT: A and B are found again from the base by psoft_svd='full' and ab_svd_init one of {known}"
        )
    terms = config["num_cayley_neumann_terms"] if config["use_cayley_neumann"] else 0
    symmetric = config["ab_svd_init"] == "pissa_init"
    arguments = dict(rank=config["r"], relaxed=config["psoft_mag_a"], terms=terms, symmetric=symmetric)
    return lambda base: PSOFT(base, dropout=config["psoft_dropout"], **arguments)


def psoft_settings(a: PSOFT) -> dict:
    return {
        "r": a.rank,
        "psoft_alpha": a.rank,
        "psoft_mag_a": a.relaxed,
        "psoft_mag_b": a.relaxed,
        "use_cayley_neumann": bool(a.terms),
        "num_cayley_neumann_terms": a.terms or 5,
        "ab_svd_init": "pissa_init" if a.symmetric else "psoft_init",
        "psoft_dropout": setting(a, "dropout"),
    }


PSOFT_KIND = Kind(
    "PSOFT",
    (PSOFT,),
    {
        "r": 32, "psoft_dropout": 0.0, "ab_svd_init": "psoft_init", "psoft_svd": "full", "psoft_orth": True,
        "psoft_mag_a": True, "psoft_mag_b": True, "use_cayley_neumann": False, "num_cayley_neumann_terms": 5,
    },
    plainly({"psoft_R.weight": "Q", "psoft_R.vector_a": "alpha", "psoft_R.vector_b": "beta"}),
    psoft_settings,
    psoft,
    harmless=("init_weights", "psoft_alpha", "psoft_svd_lowrank_niter", "random_seed"),
    refused=("cayley_neumann_eps",),
)  # fmt: skip

KINDS = (DEFT_KIND, DELORA, MISS, PEANUT, PSOFT_KIND)
