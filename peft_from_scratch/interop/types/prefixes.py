"""PREFIX_TUNING, whose files hold what the network made and not the network, and CARTRIDGE."""

from torch import Tensor, nn

from ...adapter import Adapter
from ...methods.prompts.cartridge import Cartridge
from ...methods.prompts.prefix_tuning import Prefix, PrefixTuning
from ...targets import Targets
from ..kind import Link, Links
from .cached import around, cached, in_layers, prefix_of
from .soft import FILE

SINK = "the frozen rows of prompt_embeddings"


def prefix_tuning(model: nn.Module, sites: dict, config: dict) -> Targets:
    """From a config alone with the network, if there is one; from a file what it made."""
    network = config["prefix_projection"] and config["directory"] is None
    std = 0.0 if config["init_weights"] == "zero" and not network else 1.0

    def make(body: nn.Module, n: int) -> PrefixTuning:
        hidden = (config["encoder_hidden_size"] or body_width(body)) if network else None
        a = PrefixTuning(body, n, hidden, std=std)
        if network and config["init_weights"] == "zero":
            nn.init.zeros_(a.network[-1].weight)
            nn.init.zeros_(a.network[-1].bias)
        return a

    return around(model, config, make)


def body_width(body: nn.Module) -> int:
    """peft's default for the network: as wide as a layer's keys."""
    own = Prefix(body, 1).layout
    return own.heads * own.head_dim


def prefix_settings(a: PrefixTuning) -> dict:
    network = a.network is not None
    return {"prefix_projection": network, "encoder_hidden_size": a.network[0].out_features if network else None}


PREFIX_TUNING = cached(
    "PREFIX_TUNING",
    PrefixTuning,
    {"prefix_projection": False, "encoder_hidden_size": None, "init_weights": None},
    prefix_tuning,
    lambda made: {FILE: Link(prefix_of(made).P)},
    prefix_settings,
)


def cartridge(model: nn.Module, sites: dict, config: dict) -> Targets:
    return around(model, config, lambda body, n: Cartridge(body, n, config["num_frozen_tokens"]))


def cartridge_tensors(made: dict[str, Adapter]) -> Links:
    a = prefix_of(made)
    return {FILE: Link(a.Z)} | ({SINK: Link(a.sink)} if len(a.sink) else {})


def in_two(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows of the file apart: those that stay, and those that train."""
    state, frozen = in_layers(config, made, state), config["num_frozen_tokens"]
    if FILE not in state or not frozen:
        return state
    return state | {SINK: state[FILE][:frozen], FILE: state[FILE][frozen:]}


CARTRIDGE = cached(
    "CARTRIDGE",
    Cartridge,
    {"num_frozen_tokens": 1},
    cartridge,
    cartridge_tensors,
    lambda a: {"num_frozen_tokens": len(a.sink)},
    normal=in_two,
)

KINDS = (PREFIX_TUNING, CARTRIDGE)
