"""Every parameter-efficient fine-tuning method from its equation: the package behind the course."""

from .adapt import adapters, inject, merge, remove, switch, trained
from .adapter import Adapter, Replaced, Switch, freeze
from .describe import describe
from .methods.lowrank.lora import LoRA
from .methods.selective.bitfit import BitFit, bitfit
from .methods.selective.full import full
from .methods.selective.head import head_only
from .state import adapter_state, load_adapter, save_adapter

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "BitFit",
    "LoRA",
    "Replaced",
    "Switch",
    "adapter_state",
    "adapters",
    "bitfit",
    "describe",
    "freeze",
    "full",
    "head_only",
    "inject",
    "load_adapter",
    "merge",
    "remove",
    "save_adapter",
    "switch",
    "trained",
]
