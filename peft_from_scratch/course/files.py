"""Write a file whole or not at all."""

import os
from pathlib import Path


def write(path: Path, content: str | bytes) -> Path:
    """Write beside `path`, then move into place, so that a full disk leaves the old file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        os.replace(beside, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say for which file
        raise
    finally:
        beside.unlink(missing_ok=True)
    return path
