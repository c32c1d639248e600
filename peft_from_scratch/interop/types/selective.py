"""Methods that train some of the model's own numbers: norms, biases, single weights, singular values, rows."""

import re

import torch
from torch import nn

from ...adapter import Adapter, Replaced
from ...layers import weight_of
from ...methods.selective.beft import BEFT
from ...methods.selective.osf import OSF
from ...methods.selective.shira import SHiRA
from ...methods.selective.sparse import Sparse
from ...methods.selective.supertuning import SuperTuning
from ...targets import Factory
from ..kind import Kind, Link, Links, plainly, shaped

LN_TUNING = Kind(
    "LN_TUNING",
    (),
    {},
    lambda a: {f"ln_tuning_layers.{k}": Link(t) for k, t in a.trained.state_dict(keep_vars=True).items()},
    lambda a: {},
    lambda config: Replaced,
)

BEFT_KIND = Kind(
    "BEFT",
    (BEFT,),
    {},
    lambda a: {"beft_bias": shaped(a.beta, 1, -1)},
    lambda a: {},
    lambda config: BEFT,
    harmless=("init_weights",),
)


def shira(config: dict) -> Factory:
    if config["mask_type"] != "random":
        raise ValueError(
            f"SHIRA: mask_type={config['mask_type']!r} is a function that no file holds: give by_magnitude to SHiRA"
        )
    return lambda base: SHiRA(base, config["r"], seed=config["random_seed"] or 0)


def shira_tensors(a: Sparse) -> Links:
    """Flat positions here, rows and columns there."""
    columns = a.base.weight.shape[1]

    def out(positions: torch.Tensor) -> torch.Tensor:
        return torch.stack([positions // columns, positions % columns])

    def back(indices: torch.Tensor) -> torch.Tensor:
        return indices[0].long() * columns + indices[1].long()

    return {"shira_weight": Link(a.values), "shira_indices": Link(a.positions, out, back)}


def shira_settings(a: Sparse) -> dict:
    n, sides = len(a.values), sum(a.base.weight.shape)
    if n % sides:
        raise ValueError(f"peft's SHIRA trains r (d_in + d_out) weights a site, and {n} is not a multiple of {sides}")
    return {"r": n // sides}


SHIRA = Kind(
    "SHIRA",
    (SHiRA, Sparse),
    {"r": 32, "mask_type": "random", "random_seed": None},
    shira_tensors,
    shira_settings,
    shira,
    harmless=("init_weights",),
)


def supertuning(config: dict) -> Factory:
    low_rank = {"rank": config["r"] or 0, "alpha": config["lora_alpha"]}
    return lambda base: SuperTuning(base, config["sparsity"], not config["select_top"], **low_rank)


def supertuning_settings(a: SuperTuning) -> dict:
    return {"r": a.rank, "lora_alpha": a.scale * a.rank} if a.rank else {}


def supertuning_share(made: dict[str, Adapter]) -> dict:
    """One sparsity that leaves each site as many weights as it trains: the middle of what all allow."""
    sizes = [(len(a.values), a.base.weight.numel()) for a in made.values()]
    kept = (max(n / size for n, size in sizes) + min((n + 1) / size for n, size in sizes)) / 2
    if any(int(size * (1 - (1 - kept))) != n for n, size in sizes):
        raise ValueError(f"peft's SUPERTUNING has one sparsity for all sites, and no one fits (trained, of): {sizes}")
    return {"sparsity": 1 - kept}


SUPERTUNING = Kind(
    "SUPERTUNING",
    (SuperTuning,),
    {"sparsity": 0.99, "select_top": True, "r": None, "lora_alpha": None},
    plainly(
        {
            "supertuning_values": "values",
            "supertuning_indices": "positions",
            "supertuning_lora_A.weight": "A",
            "supertuning_lora_B.weight": "B",
        }
    ),
    supertuning_settings,
    supertuning,
    whole_settings=supertuning_share,
    harmless=("init_weights", "save_precomputed_indices"),
    refused=("lora_dropout",),
)


def osf(config: dict) -> Factory:
    """effective_rank is a number, or a share of the smaller side."""
    given = config["effective_rank"]

    def make(base: nn.Module) -> OSF:
        side = min(weight_of(base).shape)
        keep = int(side * given) if isinstance(given, float) and given <= 1 else given
        return OSF(base, None if keep is None else min(side, int(keep)))

    return make


def osf_rank(config: dict, site: str) -> dict:
    """peft looks for these patterns anywhere in the name of the site."""
    hits = [rank for pattern, rank in config["rank_pattern"].items() if re.search(pattern, site)]
    return {"effective_rank": hits[0]} if hits else {"effective_rank": config["effective_rank"]}


OSF_KIND = Kind(
    "OSF",
    (OSF,),
    {"effective_rank": None},
    plainly({"osf_svd_params.U_low": "U", "osf_svd_params.S_low": "S", "osf_svd_params.V_low": "V"}),
    lambda a: {"effective_rank": a.keep},
    osf,
    patterns={"effective_rank": "rank_pattern"},
    local=osf_rank,
    harmless=("init_weights",),
    refused=("target_svd_config",),
)

TRAINABLE_TOKENS = Kind(
    "TRAINABLE_TOKENS",
    (),
    {"token_indices": []},
    lambda a: {},
    lambda a: {},
    harmless=("init_weights",),
    trains_tokens=True,
)

KINDS = (LN_TUNING, BEFT_KIND, SHIRA, SUPERTUNING, OSF_KIND, TRAINABLE_TOKENS)
