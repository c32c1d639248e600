"""From the fields of a LORA config to the LoRA they describe: its start and the variant that is switched on."""

from ...methods.lowrank.alora import ALoRA, Invocation
from ...methods.lowrank.bdlora import BDLoRA
from ...methods.lowrank.dora import DoRA
from ...methods.lowrank.kasa import KaSA
from ...methods.lowrank.lora import LoRA, uniform
from ...methods.lowrank.monteclora import MonteCLoRA
from ...methods.lowrank.starts.gaussian import gaussian
from ...methods.lowrank.starts.mica import MiCA
from ...methods.lowrank.starts.olora import olora
from ...methods.lowrank.starts.orthogonal import orthogonal
from ...methods.lowrank.starts.pissa import fast_pissa, pissa
from ...methods.lowrank.velora import VeLoRA
from ...targets import Factory

SWITCHES = ("use_dora", "alora_invocation_tokens", "velora_config", "monteclora_config", "kasa_config", "use_bdlora")
STARTS = {
    "gaussian": gaussian, "olora": olora, "pissa": pissa, "orthogonal": orthogonal, "eva": uniform, "mica": None
}  # fmt: skip
DATA = ("eva",)  # what these find in data is in the weights
UPDATES = {"batch_average_once": "first", "batch_average": "each", "random": "never"}


def factory(config: dict) -> Factory:
    """One LoRA, or the variant that the config switches on."""
    on = [s for s in SWITCHES if config[s] not in (None, False)]
    if len(on) > 1:
        raise ValueError(f"LORA: {' and '.join(on)} do not go together in this package")
    common = dict(
        rank=config["r"], alpha=config["lora_alpha"], dropout=config["lora_dropout"], rslora=config["use_rslora"]
    )
    begin = start(config["init_lora_weights"])
    if on and on[0] in VARIANTS and not (on == ["use_bdlora"] and config["diagonal"] is None):
        if config["lora_bias"] or (begin is not uniform and on != ["use_dora"]):
            raise ValueError(
                f"LORA: {on[0]} goes with neither lora_bias nor a special init_lora_weights in this package"
            )
        return VARIANTS[on[0]](config, begin, common)
    if begin is None:
        return lambda base: MiCA(base, **common)
    return lambda base: LoRA(base, start=begin, bias=config["lora_bias"], **common)


def start(word: bool | str):
    """The start that init_lora_weights names: one that changes the base has to be found again from it, as in peft."""
    if isinstance(word, bool):
        return uniform
    name, _, iterations = word.lower().partition("_niter_")
    if name == "pissa" and iterations.isdigit():
        return fast_pissa(int(iterations))
    if name not in STARTS:
        raise ValueError(
            f"LORA: init_lora_weights={word!r} changed the base by what it saw in data or a quantiser, which no "
            "checkpoint holds: in peft, save it with path_initial_model_for_weight_conversion"
        )
    return STARTS[name]


def _velora(config: dict, begin, common: dict) -> Factory:
    v = {"num_groups": 64, "scale": 1.0, "init_type": "batch_average"} | config["velora_config"]
    update = UPDATES[v["init_type"]]
    return lambda base: VeLoRA(base, groups=v["num_groups"], update=update, times=v["scale"], **common)


def _montec(config: dict, begin, common: dict) -> Factory:
    m = {"num_samples": 8, "sample_scaler": 1e-4} | config["monteclora_config"]
    return lambda base: MonteCLoRA(base, samples=m["num_samples"], noise=m["sample_scaler"], **common)


def _alora(config: dict, begin, common: dict) -> Factory:
    invocation = Invocation(config["alora_invocation_tokens"])
    return lambda base: ALoRA(base, invocation, **common)


def _bdlora(config: dict, begin, common: dict) -> Factory:
    blocks = config["use_bdlora"].get("nblocks", 1)
    return lambda base: BDLoRA(base, blocks=blocks, diagonal=config["diagonal"], **common)


VARIANTS = {
    "use_dora": lambda config, begin, common: lambda base: DoRA(base, start=begin, **common),
    "alora_invocation_tokens": _alora,
    "velora_config": _velora,
    "monteclora_config": _montec,
    "kasa_config": lambda config, begin, common: lambda base: KaSA(base, **common),
    "use_bdlora": _bdlora,
}


def diagonal(config: dict, site: str) -> dict:
    """Which matrix of a BD-LoRA is block-diagonal: peft looks for its patterns anywhere in the name of the site."""
    blocks = config["use_bdlora"]
    if not blocks:
        return {"diagonal": None}
    found = [m for m in "AB" for word in blocks.get(f"target_modules_bd_{m.lower()}") or [] if word in site]
    if len(set(found)) > 1 or (not found and blocks.get("match_strict", True)):
        raise ValueError(f"use_bdlora: {site} must match one of target_modules_bd_a and target_modules_bd_b")
    return {"diagonal": found[0] if found else None}


def wants_data(config: dict) -> str:
    return (
        f"init_lora_weights={config['init_lora_weights']!r} looks at data"
        if config["init_lora_weights"] in DATA
        else ""
    )
