"""XLORA: a gate over LoRAs that are checkpoints of their own, which its config names by folder."""

from pathlib import Path

from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.lowrank.lora import LoRA, Start
from ...methods.mixture.experts import Expert, Experts
from ...methods.mixture.xlora import XLoRA, XLoRABody, xlora
from ..config import checked, read_config
from ..files import read_state
from ..kind import Kind, Link, Links
from ..match import by_pattern, exactly, replaced, targeted
from .lora import LORA
from .lora_variants import SWITCHES

ROOT = "base_model.model."


def folders(config: dict) -> list[Path]:
    """The folders of the experts: as the config has them, or beside the checkpoint that it came from."""
    found = []
    for name, given in (config["adapters"] or {}).items():
        places = [Path(given)] + ([config["directory"] / Path(given).name] if config["directory"] else [])
        here = next((p for p in places if p.is_dir()), None)
        if here is None:
            raise FileNotFoundError(f"XLORA: the expert {name!r} is not in the folder {given}: copy it there first")
        found.append(here)
    if not found:
        raise ValueError("XLORA: the config names no adapters, and a gate needs experts")
    return found


def expert_sites(model: nn.Module, config: dict) -> list[str]:
    """Where the experts are: all at the sites of the first."""
    return targeted(model, checked(LORA, read_config(folders(config)[0])))


def read_expert(model: nn.Module, folder: Path) -> Experts:
    """One trained plain LoRA. ValueError for a variant, which the gate cannot mix."""
    config, state = checked(LORA, read_config(folder), folder), read_state(folder)
    odd = [s for s in SWITCHES if config[s] not in (None, False)]
    odd += ["init_lora_weights"] * isinstance(config["init_lora_weights"], str) + ["lora_bias"] * config["lora_bias"]
    if odd or config["bias"] != "none" or replaced(model, config):
        raise ValueError(f"XLORA: the expert in {folder} must be a plain LoRA, without {', '.join(odd) or 'more'}")
    return {site: _expert(site, config, state, folder) for site in targeted(model, config)}


def _expert(site: str, config: dict, state: dict[str, Tensor], folder: Path) -> Expert:
    pairs = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
    names = [[f"{ROOT}{site}.{key}" for key in pair] for pair in pairs]
    found = next((pair for pair in names if all(key in state for key in pair)), None)
    if found is None:
        raise ValueError(f"XLORA: {folder} has no weights for {site}: copy the expert again")
    A, B = (state[key] for key in found)
    rank, alpha = len(A), by_pattern(config["alpha_pattern"], site, config["lora_alpha"])
    return Expert(A, B, alpha / (rank**0.5 if config["use_rslora"] else rank))


def shared(model: nn.Module, sites: dict[str, dict], config: dict) -> dict:
    experts = [read_expert(model, folder) for folder in folders(config)]
    weight = config["global_scaling_weight"]
    experts = [{site: e._replace(scale=weight * e.scale) for site, e in expert.items()} for expert in experts]
    if config["enable_softmax"] and config["enable_softmax_topk"]:
        raise ValueError("XLORA: enable_softmax and enable_softmax_topk together are not in this package: choose one")
    return xlora(
        model,
        exactly(list(sites)),
        experts,
        width=config["hidden_size"],
        first_pass=config["scaling_pass_value"] or 0.0,
        train_experts=config["use_trainable_adapters"],
        layerwise=config["layerwise_scalings"],
        depth=config["xlora_depth"],
        hidden=config["xlora_size"],
        dropout=config["xlora_dropout_p"],
        temperature=config["softmax_temperature"],
        top_k=config["top_k_lora"],
        softmax="all" if config["enable_softmax"] else "kept" if config["enable_softmax_topk"] else "none",
    )


def _body(made: dict[str, Adapter]) -> XLoRABody:
    return next(a for a in made.values() if isinstance(a, XLoRABody))


def gate(made: dict[str, Adapter]) -> Links:
    state = _body(made).head.layers.state_dict(keep_vars=True)
    return {f"internal_xlora_classifier.layers.{key}": Link(t) for key, t in state.items()}


def gate_settings(made: dict[str, Adapter]) -> dict:
    body, site = _body(made), next(a for a in made.values() if isinstance(a, XLoRA))
    head, linear = body.head, [m for m in body.head.layers if isinstance(m, nn.Linear)]
    drops = [m.p for m in head.layers if isinstance(m, nn.Dropout)]
    return {
        "task_type": "CAUSAL_LM",
        "hidden_size": linear[0].in_features,
        "xlora_depth": len(linear),
        "xlora_size": linear[0].out_features if len(linear) > 1 else 2048,
        "xlora_dropout_p": drops[0] if drops else 0.0,
        "layerwise_scalings": head.n_sites > 1,
        "enable_softmax": head.softmax == "all",
        "enable_softmax_topk": head.softmax == "kept",
        "softmax_temperature": head.temperature,
        "top_k_lora": head.top_k,
        "scaling_pass_value": body.first_pass,
        "use_trainable_adapters": isinstance(site.A, nn.Parameter),
    }


def as_loras(made: dict[str, Adapter]) -> list[dict[str, LoRA]]:
    """Each expert as LoRA adapters of its own, to be written beside."""
    mixtures = {site: a for site, a in made.items() if isinstance(a, XLoRA)}
    return [{site: _lora(a, i) for site, a in mixtures.items()} for i in range(_body(made).head.n_experts)]


def _lora(a: XLoRA, i: int) -> LoRA:
    rows = a.owner == i
    start = Start(a.A.detach()[rows], a.B.detach()[:, rows])
    rank = int(rows.sum())
    return LoRA(a.base, rank, a.scales[i] * rank, start=lambda *_: start)


XLORA = Kind(
    "XLORA",
    (XLoRA, XLoRABody),
    {
        "hidden_size": None, "adapters": None, "enable_softmax": True, "enable_softmax_topk": False,
        "layerwise_scalings": False, "xlora_depth": 1, "xlora_size": 2048, "xlora_dropout_p": 0.2,
        "use_trainable_adapters": False, "softmax_temperature": 1.0, "top_k_lora": None, "scaling_pass_value": 0.0,
        "global_scaling_weight": 1.0,
    },
    lambda a: {},
    lambda a: {},
    shared=shared,
    find=expert_sites,
    whole=gate,
    whole_settings=gate_settings,
    parts=as_loras,
)  # fmt: skip

KINDS = (XLORA,)
