"""What a child may use: its own folder, no old file descriptors, limits of memory, time, processes and file size.

Linux and macOS. As root, the child also becomes a user that owns nothing.
"""

import contextlib
import os
import signal
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

NOBODY = 61_184  # no account has this number: its processes are counted apart, and it owns no file
MAX_FD = 1024
PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limits:
    """Per answer. `seconds` for the cell itself (each check has its own); memory beyond what torch takes; file size."""

    seconds: float = 5.0
    memory_mb: int = 1024
    file_mb: int = 16
    processes: int = 16


def confine(folder: Path, limits: Limits, wall: float, keep: tuple[int, ...], drop: bool = True) -> None:
    """In the child, before any learner's code: own session, own folder, closed files, limits, no privileges."""
    import resource

    os.setsid()
    os.chdir(folder)
    _close(keep)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        os.environ[name] = str(folder)
    tempfile.tempdir = None  # looked up before, and remembered
    os.environ["PFS_PROGRESS"] = str(folder / "progress.jsonl")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file too large is an error, not the end
    hard = {
        resource.RLIMIT_AS: _address_space() + limits.memory_mb * 2**20,
        resource.RLIMIT_CPU: int(wall) + 2,
        resource.RLIMIT_FSIZE: limits.file_mb * 2**20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 128,
        resource.RLIMIT_NPROC: limits.processes + _processes_of_user(),
    }
    for kind, value in hard.items():
        _, most = resource.getrlimit(kind)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        with contextlib.suppress(ValueError, OSError):  # macOS has no address-space limit
            resource.setrlimit(kind, (value, value))
    if drop and may_drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def may_drop() -> bool:
    """Whether this is root, and another user could still read the package, torch and Python."""
    return os.geteuid() == 0 and all(map(_open_to_all, (PACKAGE, Path(torch.__file__), Path(sys.base_prefix))))


def _open_to_all(path: Path) -> bool:
    path = path.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents) if each.is_dir())


def _close(keep: tuple[int, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MAX_FD)


def _address_space() -> int:
    """Bytes of address space that this process has already, most of it libraries."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 * 2**30


def _processes_of_user() -> int:
    """Threads that this user runs already: the system's limit counts them all."""
    if may_drop():
        return 0
    count = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            count += int(lines["Threads"]) * (int(lines["Uid"].split()[0]) == os.getuid())
    return count
