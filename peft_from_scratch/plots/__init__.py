"""One function a figure: it returns the Figure and the sentence that says what it shows (its alternative text)."""

from .base import COLOURS, FAINT, GREY, OTHER, STYLE, as_html, figure, percent, show
from .choice import ladder, layer_stack
from .codes import block_size, rulers
from .demo import comparison, parameter_field
from .faults import museum
from .league import against_full, front, quality_and_forgetting, resolution, two_exams
from .low_rank import cut_to_rank, truncation
from .mechanism import parameter_lists, reloads
from .memory import forgetting, step_memory
from .predictions import calibration

__all__ = [
    "COLOURS",
    "FAINT",
    "GREY",
    "OTHER",
    "STYLE",
    "against_full",
    "as_html",
    "block_size",
    "calibration",
    "comparison",
    "cut_to_rank",
    "figure",
    "forgetting",
    "front",
    "ladder",
    "layer_stack",
    "museum",
    "parameter_field",
    "parameter_lists",
    "percent",
    "quality_and_forgetting",
    "reloads",
    "resolution",
    "rulers",
    "show",
    "step_memory",
    "truncation",
    "two_exams",
]
