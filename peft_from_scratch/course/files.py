"""Write a file whole or not at all."""

import errno
import os
from pathlib import Path


def folder(path: Path) -> Path:
    """Make the folder before the work whose result goes there: what cannot be written is said at once."""
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return path


def write(path: Path, content: str | bytes) -> Path:
    """Write beside `path`, then move into place, so that a full disk leaves the old file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(beside, path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the one beside it; a full disk names none
        raise
    finally:
        beside.unlink(missing_ok=True)
    return path
