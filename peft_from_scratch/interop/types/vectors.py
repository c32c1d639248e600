"""Methods whose sites share the numbers that train: TINYLORA, UNILORA, VBLORA."""

import torch
from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.lowrank import tinylora, unilora, vblora
from ..kind import Kind, Link, Links, plainly, setting, turned
from ..match import exactly

Sites = dict[str, dict]
ROOT = "base_model.model."


def _first(made: dict[str, Adapter]) -> Adapter:
    return next(iter(made.values()))


# TinyLoRA ------------------------------------------------------------------------------------------------------------


def tinylora_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    patterns, tie, seed = exactly(list(sites)), config["weight_tying"], config["projection_seed"]
    return {patterns: tinylora.shared(model, patterns, config["r"], config["u"], tie, seed, split=True)}


def tinylora_tensors(a: tinylora.TinyLoRA) -> Links:
    """In an embedding peft's W is our Wᵀ, and so is all that is made of it."""
    if isinstance(a.base, nn.Embedding):
        return {"tinylora_A": turned(a.B), "tinylora_B": turned(a.A), "tinylora_P": turned(a.P)}
    return {"tinylora_A": Link(a.A), "tinylora_B": Link(a.B), "tinylora_P": Link(a.P)}


def tinylora_vectors(made: dict[str, Adapter]) -> Links:
    vectors = dict.fromkeys(a.vector for a in made.values())
    return {f"tinylora_v.{i}": Link(vector.v) for i, vector in enumerate(vectors)}


def tinylora_again(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the random P of a file that leaves them to the seed."""
    own = {f"{ROOT}{site}.tinylora_P": tinylora_tensors(a)["tinylora_P"] for site, a in made.items()}
    again = {} if config["save_projection"] else {k: link.out(link.tensor) for k, link in own.items()}
    return again | state


def tinylora_tie(made: dict[str, Adapter]) -> dict:
    groups = len({id(a.vector) for a in made.values()})
    return {"weight_tying": 1 - groups / len(made), "save_projection": True}


TINYLORA = Kind(
    "TINYLORA",
    (tinylora.TinyLoRA,),
    {"r": 2, "u": 64, "weight_tying": 0.0, "projection_seed": 42, "save_projection": True},
    tinylora_tensors,
    lambda a: {"r": len(a.A), "u": len(a.vector.v)},
    shared=tinylora_shared,
    whole=tinylora_vectors,
    whole_settings=tinylora_tie,
    normal=tinylora_again,
    harmless=("init_weights", "init_v_bound"),
    refused=("tinylora_dropout",),
    bias_only="tinylora_only",
    conv1d=True,
)

# Uni-LoRA ------------------------------------------------------------------------------------------------------------


def unilora_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    patterns, bound, dropout = exactly(list(sites)), config["init_theta_d_bound"], config["unilora_dropout"]
    rank, length, seed = config["r"], config["theta_d_length"], config["proj_seed"]
    return {patterns: unilora.shared(model, patterns, rank, length, seed, bound, dropout=dropout)}


def unilora_same(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the indices of a file that holds them, if they are those of the seed; ValueError if not."""
    for site, a in made.items():
        for letter, index in (("A", a.index_A), ("B", a.index_B)):
            given = state.pop(f"{ROOT}{site}.unilora_indices_{letter}", index)
            if given.shape != index.shape or not torch.equal(given.to(index), index):
                raise ValueError(f"{site}: the file's indices are not those that proj_seed={config['proj_seed']} draws")
            state.pop(f"{ROOT}{site}.unilora_scales_{letter}", None)
    return state


UNILORA = Kind(
    "UNILORA",
    (unilora.UniLoRA,),
    {"r": 4, "theta_d_length": 256, "proj_seed": 42, "unilora_dropout": 0.0, "init_theta_d_bound": 0.02},
    lambda a: {},
    lambda a: {
        "r": a.vector.rank,
        "theta_d_length": len(a.vector.theta),
        "proj_seed": a.vector.seed,
        "unilora_dropout": setting(a, "dropout"),
    },
    shared=unilora_shared,
    whole=lambda made: {"unilora_theta_d": Link(_first(made).vector.theta)},
    normal=unilora_same,
    harmless=("init_weights", "save_indices"),
    bias_only="unilora_only",
    conv1d=True,
)

# VB-LoRA -------------------------------------------------------------------------------------------------------------


def vblora_shared(model: nn.Module, sites: Sites, config: dict) -> dict:
    patterns, dropout, std = exactly(list(sites)), config["vblora_dropout"], config["init_logits_std"]
    own = {"rank": config["r"], "top_k": config["topk"], "dropout": dropout, "logits_std": std}
    bank = (config["num_vectors"], config["vector_length"], config["init_vector_bank_bound"])
    return {patterns: vblora.shared(model, patterns, *bank, **own)}


def vblora_logits(config: dict, made: dict, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The logits of a file that holds only the best vectors' weights, less the last one, which the others give."""
    for key in [k for k in state if k.endswith("_topk_indices")]:
        name = key.removesuffix("_topk_indices")
        weights, which = state.pop(f"{name}_topk_weights"), state.pop(key).long()
        weights = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], -1)
        empty = weights.new_full((*which.shape[:-1], config["num_vectors"]), float("-inf"))
        state[name] = empty.scatter(-1, which, weights.log())
    return state


VBLORA = Kind(
    "VBLORA",
    (vblora.VBLoRA,),
    {
        "r": 4, "num_vectors": 256, "vector_length": 256, "topk": 2, "vblora_dropout": 0.0,
        "init_vector_bank_bound": 0.02, "init_logits_std": 0.1,
    },
    plainly({"vblora_logits_A": "logits_A", "vblora_logits_B": "logits_B"}),
    lambda a: {
        "r": len(a.logits_A), "num_vectors": len(a.bank.vectors), "vector_length": a.bank.vectors.shape[1],
        "topk": a.top_k, "vblora_dropout": setting(a, "dropout"),
    },
    shared=vblora_shared,
    whole=lambda made: {"vblora_vector_bank": Link(_first(made).bank.vectors)},
    normal=vblora_logits,
    harmless=("init_weights", "save_only_topk_weights"),
    bias_only="vblora_only",
    conv1d=True,
)  # fmt: skip

KINDS = (TINYLORA, UNILORA, VBLORA)
