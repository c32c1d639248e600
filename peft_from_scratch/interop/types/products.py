"""Changes that are made of products: LOHA, LOKR, HIRA, GRALORA, GLORA."""

from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.lowrank.glora import GLoRA, Support
from ...methods.lowrank.gralora import GraLoRA
from ...methods.lowrank.hira import HiRA
from ...methods.lowrank.loha import LoHa
from ...methods.lowrank.lokr import LoKr
from ..kind import Kind, Link, Links, one_to_one, plainly

LOHA = Kind(
    "LOHA",
    (LoHa,),
    {"r": 8, "alpha": 8, "rank_dropout": 0.0, "module_dropout": 0.0},
    plainly({"hada_w1_a": "B1", "hada_w1_b": "A1", "hada_w2_a": "B2", "hada_w2_b": "A2"}),
    **one_to_one(
        LoHa, {"r": "rank", "alpha": "alpha", "rank_dropout": "rank_dropout", "module_dropout": "module_dropout"}
    ),
    harmless=("init_weights",),
    refused=("use_effective_conv2d",),
    patterns={"r": "rank_pattern", "alpha": "alpha_pattern"},
)

LOKR_NAMES = {
    "r": "rank",
    "alpha": "alpha",
    "rank_dropout": "rank_dropout",
    "module_dropout": "module_dropout",
    "decompose_both": "decompose_both",
    "decompose_factor": "factor",
    "rank_dropout_scale": "rescale",
}


def lokr_tensors(a: LoKr) -> Links:
    """A factor that is whole is called w1 in the file, one that is split w1_a and w1_b."""
    links = {}
    for ours, theirs in (("W1", "lokr_w1"), ("W2", "lokr_w2")):
        b, right = getattr(a, f"{ours}b"), getattr(a, f"{ours}a")
        links |= {theirs: Link(b)} if right is None else {f"{theirs}_a": Link(b), f"{theirs}_b": Link(right)}
    return links


LOKR = Kind(
    "LOKR",
    (LoKr,),
    {
        "r": 8, "alpha": 8, "rank_dropout": 0.0, "module_dropout": 0.0, "decompose_both": False, "decompose_factor": -1,
        "rank_dropout_scale": False,
    },
    lokr_tensors,
    **one_to_one(LoKr, LOKR_NAMES),
    harmless=("init_weights",),
    refused=("use_effective_conv2d",),
    patterns={"r": "rank_pattern", "alpha": "alpha_pattern"},
)  # fmt: skip


def hira_tensors(a: HiRA) -> Links:
    kind = "embedding_" if isinstance(a.base, nn.Embedding) else ""
    return {f"hira_{kind}A": Link(a.A), f"hira_{kind}B": Link(a.B)}


HIRA = Kind(
    "HIRA",
    (HiRA,),
    {"r": 32, "hira_dropout": 0.0},
    hira_tensors,
    **one_to_one(HiRA, {"r": "rank", "hira_dropout": "dropout"}),
    harmless=("init_weights", "rank_pattern"),  # peft 0.21.2 looks the rank up there, and then takes r all the same
    conv1d=True,
)

GRALORA = Kind(
    "GRALORA",
    (GraLoRA,),
    {"r": 32, "hybrid_r": 0, "alpha": 64, "gralora_k": 2, "gralora_dropout": 0.0},
    plainly(
        {
            "gralora_A": "A",
            "gralora_B": "B",
            "gralora_A_general.weight": "hybrid_A",
            "gralora_B_general.weight": "hybrid_B",
        }
    ),
    **one_to_one(
        GraLoRA,
        {"r": "rank", "hybrid_r": "hybrid", "alpha": "alpha", "gralora_k": "blocks", "gralora_dropout": "dropout"},
    ),
    harmless=("init_weights",),
    bias_only="gralora_only",
    conv1d=True,
)


def glora_tensors(a: GLoRA) -> Links:
    links = {}
    for letter in "ABCDE":
        part: Support = getattr(a, letter)
        links |= {
            f"glora_{letter}.{k}": link
            for k, link in plainly({"Xd": "left", "Xu": "right", "X": "value"})(part).items()
        }
    return links


def glora_used(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without C, D and E of layers that have no bias: peft keeps them and never uses them."""
    idle = [f"base_model.model.{site}.glora_{x}." for site, a in made.items() if a.base.bias is None for x in "CDE"]
    return {k: t for k, t in state.items() if not k.startswith(tuple(idle))}


GLORA = Kind(
    "GLORA",
    (GLoRA,),
    {"r": 8, "config_A_B": "lora", "config_C": "lora", "config_D_E": "constant"},
    glora_tensors,
    lambda a: {"r": a.rank} | dict(zip(("config_A_B", "config_C", "config_D_E"), a.forms, strict=True)),
    one_to_one(GLoRA, {"r": "rank", "config_A_B": "AB", "config_C": "C", "config_D_E": "DE"})["factory"],
    harmless=("init_weights",),
    normal=glora_used,
    bias_only="glora_only",
)


KINDS = (LOHA, LOKR, HIRA, GRALORA, GLORA)
