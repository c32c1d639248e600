"""What runs around the lessons: the budget of this machine, and the learner's progress."""

from .budget import Budget, budget, setup
from .points import summary
from .progress import log_event, read_events
from .saved import saved

__all__ = ["Budget", "budget", "log_event", "read_events", "saved", "setup", "summary"]
