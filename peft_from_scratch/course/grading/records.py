"""One JSON file for each graded submission, written beside and moved into place: a stopped batch goes on from them."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ...check.lookup import lessons
from ..errors import CourseError
from ..files import write
from ..lessons import has_notebook, notebook_path
from .reading import MAX_BYTES


@dataclass(frozen=True)
class Submission:
    """A submitted file, and whose it is by its name or folder."""

    path: Path
    learner: str


def key(submission: Submission, settings: dict) -> str:
    """Changes with the file's bytes, its learner, and the settings: seed, limits, the course itself."""
    digest = hashlib.sha256(json.dumps([submission.learner, settings], sort_keys=True).encode())
    try:
        if too_large(submission.path):
            return digest.hexdigest()[:23] + "x"
        with open(submission.path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError:  # it gets a row that says so
        digest.update(str(submission.path).encode("utf-8", "replace"))
    return digest.hexdigest()[:24]


def course_digest() -> str:
    """Changes with the lessons, their checks and the grader: then older records are void."""
    here = Path(__file__).resolve().parent
    own = [Path(part) for part in os.environ.get("PFS_LESSONS", "").split(os.pathsep) if part]
    files = [path for folder in (here, here.parents[1] / "check", *own) for path in sorted(folder.glob("*.py"))]
    files += [notebook_path(one) for one in lessons().values() if has_notebook(one)]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def too_large(path: Path) -> bool:
    """Whether nobody would want to read this file; False where it cannot be looked at."""
    try:
        return path.stat().st_size > MAX_BYTES
    except OSError:
        return False


def load(folder: Path, key: str) -> dict | None:
    """A record that was finished, or None."""
    try:
        return json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def save(folder: Path, key: str, record: dict) -> None:
    write(folder / f"{key}.json", json.dumps(record, ensure_ascii=True, indent=1))


def collect(arguments: list[Path], known_stems: set[str]) -> list[Submission]:
    """Files as they are named; in a folder every .ipynb, the first folder below it being the learner's."""
    found = {}
    for argument in arguments:
        if not argument.is_dir() and not argument.is_file():
            raise CourseError(f"There is no file or folder {argument}. Look at the spelling, and run this again.")
        for path in _notebooks(argument) if argument.is_dir() else [argument]:
            found.setdefault(path.absolute(), Submission(path, _learner(path, argument, known_stems)))
    return list(found.values())


def _notebooks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.ipynb")
                  if path.is_file() and not path.is_symlink() and ".ipynb_checkpoints" not in path.parts)  # fmt: skip


def _learner(path: Path, argument: Path, known_stems: set[str]) -> str:
    parts = path.relative_to(argument).parts if argument.is_dir() else ()
    name = parts[0] if len(parts) > 1 else path.stem
    return printable(path.absolute().parent.name if name in known_stems else name)


def printable(text: str) -> str:
    """A name for tables and file names: no separators, no control characters, not too long."""
    cleaned = "".join(each if each.isprintable() and each not in '/\\:*?"<>|' else "_" for each in text)
    return cleaned.strip(". ")[:80] or "_"
