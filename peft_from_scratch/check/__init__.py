"""What a notebook calls: check, hint, solution, predict, reveal, start_from; and what exercises are made of."""

from . import session
from .audit import audit
from .exercise import Exercise, Lesson, Property, Wrong
from .grading import Result, grade
from .help import hint, solution, start_from
from .lookup import UnknownName, exercise, lesson, lessons
from .predictions import calibration, predict, reveal
from .report import CheckFailed, check

__all__ = [
    "CheckFailed",
    "Exercise",
    "Lesson",
    "Property",
    "Result",
    "UnknownName",
    "Wrong",
    "audit",
    "calibration",
    "check",
    "exercise",
    "grade",
    "hint",
    "lesson",
    "lessons",
    "predict",
    "reveal",
    "solution",
    "start_from",
]

session.watch()  # from the first cell on, so that the cells before the first check are seen too
