"""What this machine has: free memory, free disk; and how long the lessons took where they were measured."""

import os
import shutil
from pathlib import Path

from ..check.exercise import Lesson
from .saved import measured_runs


def memory() -> tuple[int | None, int | None]:
    """(bytes in all, bytes free); None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return found["MemTotal"], found["MemAvailable"]
    except (OSError, KeyError):
        pass
    try:
        import psutil

        return psutil.virtual_memory().total, psutil.virtual_memory().available
    except ImportError:
        return None, None


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def run_times(lesson: Lesson) -> dict[str, float]:
    """{mode: seconds} of the solved notebook, as it was measured; empty where nobody did."""
    return {mode: each["seconds"] for mode, each in measured_runs(lesson.id).items()}


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
