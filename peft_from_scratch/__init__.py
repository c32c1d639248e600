"""Every parameter-efficient fine-tuning method from its equation: the package behind the course."""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Adapter": "adapter",
    "BitFit": "methods.selective.bitfit",
    "LoRA": "methods.lowrank.lora",
    "Replaced": "adapter",
    "Switch": "adapter",
    "adapter_state": "state",
    "adapters": "adapt",
    "bitfit": "methods.selective.bitfit",
    "describe": "overview",
    "freeze": "adapter",
    "full": "methods.selective.full",
    "head_only": "methods.selective.head",
    "inject": "adapt",
    "load_adapter": "state",
    "merge": "adapt",
    "remove": "adapt",
    "save_adapter": "state",
    "switch": "adapt",
    "trained": "adapt",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    """A name is imported at its first use, so that quizzes and progress run where there is no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
