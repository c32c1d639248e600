"""What runs around the lessons: the budget of this machine, and the learner's progress."""

from importlib import import_module

from .budget import Budget, budget, setup
from .saved import saved

__all__ = ["Budget", "budget", "log_event", "read_events", "saved", "setup", "summary"]
_LATER = {"log_event": "progress", "read_events": "progress", "summary": "points"}


def __getattr__(name: str):
    """Progress needs a library that the doctor must do without: imported at its first use."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
