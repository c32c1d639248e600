"""What a build wrote, kept beside it: the next build into the same folder takes away the pages that are no more."""

import hashlib
import json
import re
from pathlib import Path

from ..files import write

NAME = ".course-site.json"


def publish(out: Path, files: dict[str, str]) -> list[str]:
    """Write all `files` (name -> content), remove what an earlier build wrote and this one does not.

    Returns the names of earlier files that stay because somebody changed them since.
    """
    before, now = _read(out), {name: _digest(content.encode("utf-8")) for name, content in files.items()}
    write(out / NAME, json.dumps(before | now, indent=0))  # first: a build that is killed leaves no page unknown
    for name, content in files.items():
        write(out / name, content)
    stay = [name for name in sorted(before.keys() - now.keys()) if not _remove(out, name, before[name])]
    write(out / NAME, json.dumps(now, indent=0))
    return stay


def _read(out: Path) -> dict[str, str]:
    """{name: SHA-256}; nothing where there is no list, or one that no build wrote."""
    try:
        found = json.loads((out / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {name: digest for name, digest in found.items() if _is_ours(name)} if isinstance(found, dict) else {}


def _is_ours(name: str) -> bool:
    """Whether a build could have written it: nothing outside the folder, and no kind of file that a site has not."""
    return re.fullmatch(r"([a-z]+/)?[\w-]+\.(html|css|js)", name) is not None


def _remove(out: Path, name: str, digest: str) -> bool:
    """Remove a file, and its folder where that is empty then. False where it is not as it was written."""
    path = out / name
    if not path.is_file():
        return True
    if path.is_symlink() or _digest(path.read_bytes()) != digest:
        return False
    path.unlink()
    if path.parent != out and not any(path.parent.iterdir()):
        path.parent.rmdir()
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
