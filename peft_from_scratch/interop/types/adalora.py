"""ADALORA, whose files leave out the triplets that were pruned."""

import torch
from torch import Tensor

from ...adapter import Adapter
from ...methods.lowrank.adalora import AdaLoRA
from ..kind import Kind, one_to_one, plainly
from .lora import HARMLESS, REFUSED


def whole_ranks(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The pruned triplets that a finished AdaLoRA leaves out of its file, with Λ = 0 again."""
    for name, kept in (config["rank_pattern"] or {}).items():
        site, kept = name.partition(".lora_E")[0], torch.tensor(kept, dtype=torch.bool)
        for key, dim in (("lora_A", 0), ("lora_E", 0), ("lora_B", 1)):
            full = f"base_model.model.{site.removeprefix('base_model.model.').removeprefix('model.')}.{key}"
            full = full if full in state else f"base_model.model.{site}.{key}"
            if full in state and state[full].shape[dim] == int(kept.sum()):
                t = state[full]
                whole = t.new_zeros(*t.shape[:dim], len(kept), *t.shape[dim + 1 :])
                state[full] = whole.index_copy(dim, kept.nonzero()[:, 0], t)
    return state


ADALORA = Kind(
    "ADALORA",
    (AdaLoRA,),
    {"init_r": 12, "lora_alpha": 8, "lora_dropout": 0.0},
    plainly({"lora_A": "Q", "lora_B": "P", "lora_E": "Lambda"}),
    **one_to_one(AdaLoRA, {"init_r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}),
    harmless=(
        *HARMLESS, "r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
        "rank_pattern", "init_lora_weights", "use_rslora",
    ),
    refused=(*REFUSED, "alpha_pattern", "use_dora", "velora_config", "monteclora_config", "kasa_config", "use_bdlora",
             "alora_invocation_tokens", "lora_bias"),
    normal=whole_ranks,
    whole_settings=lambda made: {"total_step": 1},  # peft asks for one; it counts in training alone
    trains_tokens=True,
    bias_only="lora_only",
    conv1d=True,
)  # fmt: skip

KINDS = (ADALORA,)
