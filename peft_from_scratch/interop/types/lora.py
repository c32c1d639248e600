"""LORA with its switches: the names of its tensors, and the config of what is in a model."""

import torch
from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.lowrank.alora import ALoRA
from ...methods.lowrank.bdlora import BDLoRA
from ...methods.lowrank.dora import DoRA
from ...methods.lowrank.kasa import KaSA
from ...methods.lowrank.lora import LoRA
from ...methods.lowrank.monteclora import MonteCLoRA
from ...methods.lowrank.starts.mica import MiCA
from ...methods.lowrank.velora import VeLoRA
from ..kind import Kind, Link, Links, plainly, setting, shaped
from .lora_variants import SWITCHES, UPDATES, diagonal, factory, wants_data

FIELDS = {
    "r": 8,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "use_rslora": False,
    "lora_bias": False,
    "init_lora_weights": True,
} | dict.fromkeys(SWITCHES)


def tensors(a: LoRA) -> Links:
    return _named(a, a.A, a.B, subtracted=False)


def saved(a: LoRA) -> Links:
    """As `tensors`; a start that is taken off, B A - B0 A0, is written as one product of twice the rank."""
    return _named(a, a.A, a.B, subtracted=a.A0 is not None)


def _named(a: LoRA, A: Tensor, B: Tensor, subtracted: bool) -> Links:
    token = isinstance(a.base, nn.Embedding)
    down, up = ("lora_embedding_A", "lora_embedding_B") if token else ("lora_A.weight", "lora_B.weight")
    links = {down: Link(A), up: Link(B)}
    if isinstance(a.base, nn.Conv2d):
        links = {down: shaped(A, len(A), *a.base.weight.shape[1:]), up: shaped(B, *B.shape, 1, 1)}
    if subtracted:
        links = {down: _beside(links[down], a.A0, 0), up: _beside(links[up], -a.B0, 1)}
    if a.b is not None:
        links["lora_B.bias"] = Link(a.b)
    return links | plainly({"lora_diag": "d", "lora_velora_embed": "v"})(a) | _length(a) | _noise(a)


def _beside(link: Link, start: Tensor, dim: int) -> Link:
    return Link(link.tensor, lambda t: torch.cat((link.out(t), link.out(t.new_zeros(start.shape) + start)), dim))


def _length(a: LoRA) -> Links:
    if not isinstance(a, DoRA):
        return {}
    wide = (1, -1, 1, 1) if isinstance(a.base, nn.Conv2d) else (-1,)
    return {"lora_magnitude_vector": shaped(a.m, *wide)}


def _noise(a: LoRA) -> Links:
    if not isinstance(a, MonteCLoRA):
        return {}
    prefix = "lora_monteclora_sampler."
    return {f"{prefix}std_prior": Link(a.p), f"{prefix}expert_weights_prior": Link(a.q)}


def settings(a: LoRA) -> dict:
    double = 2 if a.A0 is not None else 1
    fields = {
        "r": double * a.rank,
        "lora_alpha": a.alpha * (double**0.5 if a.rslora else double),
        "lora_dropout": setting(a, "dropout"),
        "use_rslora": a.rslora,
        "lora_bias": a.b is not None,
        "init_lora_weights": "mica" if isinstance(a, MiCA) else True,
        "use_dora": isinstance(a, DoRA),
    }
    return fields | _switch(a)


def _switch(a: LoRA) -> dict:
    if isinstance(a, ALoRA):
        return {"alora_invocation_tokens": a.invocation.tokens}
    if isinstance(a, KaSA):
        return {"kasa_config": {}}
    if isinstance(a, MonteCLoRA):
        return {"monteclora_config": {"num_samples": a.samples, "sample_scaler": a.noise}}
    if isinstance(a, VeLoRA):
        update = next(theirs for theirs, ours in UPDATES.items() if ours == a.update)
        return {"velora_config": {"num_groups": a.n_groups, "scale": a.times, "init_type": update}}
    return {}


def blocks(made: dict[str, Adapter]) -> dict:
    """The sites of BD-LoRA, by which of their matrices is in blocks."""
    own = {site: a for site, a in made.items() if isinstance(a, BDLoRA)}
    if not own:
        return {}
    counts = {a.blocks for a in own.values()}
    if len(counts) > 1:
        raise ValueError(f"peft's use_bdlora has one number of blocks for all sites, and these have {sorted(counts)}")
    at = {m: [site for site, a in own.items() if a.diagonal == m] for m in "AB"}
    names = {"target_modules_bd_a": at["A"], "target_modules_bd_b": at["B"]}
    return {"use_bdlora": names | {"nblocks": counts.pop(), "match_strict": len(own) == len(made)}}


def normal(config: dict, made: dict, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the constants of MonteCLoRA's sampler, and DoRA's length under its newer name."""
    drop = (".gaussian_var_prior", ".lora_monteclora_sampler.expert_weights")
    state = {k: t for k, t in state.items() if not k.endswith(drop)}
    return {k.replace("lora_magnitude_vector.weight", "lora_magnitude_vector"): t for k, t in state.items()}


REFUSED = (
    "layer_replication", "megatron_config", "target_parameters", "ensure_weight_tying", "arrow_config", "use_qalora"
)  # fmt: skip
HARMLESS = (
    "megatron_core", "runtime_config", "qalora_group_size", "eva_config", "corda_config", "loftq_config",
    "lora_ga_config",
)  # fmt: skip

LORA = Kind(
    "LORA",
    (LoRA, DoRA, ALoRA, VeLoRA, MonteCLoRA, KaSA, BDLoRA, MiCA),
    FIELDS,
    tensors,
    settings,
    factory,
    patterns={"r": "rank_pattern", "lora_alpha": "alpha_pattern"},
    harmless=HARMLESS,
    refused=REFUSED,
    local=diagonal,
    saved=saved,
    normal=normal,
    whole_settings=blocks,
    needs_weights=wants_data,
    trains_tokens=True,
    bias_only="lora_only",
    conv1d=True,
    conv2d=True,
)

KINDS = (LORA,)
