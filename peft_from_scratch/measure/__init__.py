"""What a method costs: parameters, bytes, FLOPs, time, disk; all of it exact but the time."""

from ..overview import Packed, packed
from .disk import adapter_bytes, file_bytes
from .flops import flop_ratio, step_flops
from .memory import StaticBytes, peak_allocated, saved_bytes, static_bytes
from .merging import MergeError, merge_error
from .params import Counts, count
from .timing import TimeRatio, interleaved_ratio, sync

__all__ = [
    "Counts", "MergeError", "Packed", "StaticBytes", "TimeRatio", "adapter_bytes", "count", "file_bytes", "flop_ratio",
    "interleaved_ratio", "merge_error", "packed", "peak_allocated", "saved_bytes", "static_bytes", "step_flops", "sync",
]  # fmt: skip
