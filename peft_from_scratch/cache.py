"""The folder that keeps what was downloaded: where it is, one process at a time, and what its failures mean."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .assets import Asset
from .download import megabytes


def cache_dir() -> Path:
    """PFS_CACHE, else the folder where this platform keeps caches."""
    if chosen := os.environ.get("PFS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "peft_from_scratch"


@contextmanager
def locked(cache: Path, name: str, quiet: bool) -> Iterator[None]:
    """One process at a time per asset; the system drops the lock of a process that dies."""
    from filelock import FileLock, Timeout

    (cache / "locks").mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / "locks" / f"{name}.lock")
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if not quiet:
            print(f"{name}: another process is at work on it; waiting", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def explain(error: OSError, asset: Asset, cache: Path) -> str:
    """What a failure of the disk means for the reader."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f"the wheel of {asset.name} alone has {megabytes(asset.size)}"
        advice = "Make room, or set PFS_CACHE to a folder on another disk, and run this again"
        return f"the disk with {cache} is full ({need}). {advice}; what has arrived is kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        advice = "Set PFS_CACHE to a folder you may write to, and run this again"
        return f"{asset.name} is not complete in {cache}, which cannot be written ({error.strerror}). {advice}"
    return f"{asset.name} could not be put into {cache} ({error}). Set PFS_CACHE to another folder"
