"""Execute a lesson untouched, once for each version of it and of the package; later builds read the cache."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from ...cache import cache_dir
from ..errors import CourseError
from ..files import write

PACKAGE = Path(__file__).resolve().parents[2]
CELL_LIMIT = 1200  # seconds: a cpu run on a busy machine


def executed(path: Path, mode: str, say=print):
    """The lesson's notebook with its outputs. CourseError names the lesson, the cell and the error."""
    import nbformat

    kept = cache_dir() / "site" / f"{path.stem}-{mode}-{fingerprint(path, mode)}.ipynb"
    if not kept.is_file():
        say(f"{path.stem}: executing in {mode} mode", flush=True)
        write(kept, nbformat.writes(_execute(nbformat.read(path, as_version=4), path, mode)))
    return nbformat.read(kept, as_version=4)


def fingerprint(path: Path, mode: str) -> str:
    """Changes when the lesson, the package or torch does."""
    from importlib.metadata import version

    parts = [path.read_bytes(), mode.encode(), version("torch").encode(), _package()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@cache
def _package() -> bytes:
    """The code that a lesson runs; these pages themselves are not part of it."""
    files = [each for each in sorted(PACKAGE.rglob("*.py")) if "course/" not in each.relative_to(PACKAGE).as_posix()]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).digest()


def _execute(notebook, path: Path, mode: str):
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    with tempfile.TemporaryDirectory() as folder:
        inside = {**os.environ, "PFS_PROGRESS": str(Path(folder) / "progress.jsonl"), "PEFT_COURSE_MODE": mode}
        client = NotebookClient(
            notebook,
            timeout=CELL_LIMIT,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(path.resolve().parent)}},
        )
        try:
            client.execute(env=inside)
        except AssertionError:
            if client.km is None:  # stopped from outside: nbclient ends its kernel, then trips over that
                raise KeyboardInterrupt from None
            raise
        except (CellTimeoutError, DeadKernelError) as error:
            raise CourseError(
                f"{path.stem} did not run to its end in {mode} mode: {str(error).splitlines()[0]}"
            ) from None
    _no_error(notebook, path)
    return notebook


def _no_error(notebook, path: Path) -> None:
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise CourseError(
                    f"{path.stem}, cell {number} ({cell.get('id')}): {output.ename}: {output.evalue}. "
                    "Run this lesson in JupyterLab, mend it, and build the site again."
                )
