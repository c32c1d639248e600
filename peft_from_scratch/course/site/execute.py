"""Execute a lesson untouched, once for each version of it and of the package; later builds read the cache."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from ...cache import cache_dir
from ...check.exercise import Lesson
from ..budget import has_gpu
from ..errors import CourseError
from ..files import write
from ..lessons import notebook_path
from ..machine import run_times
from .outputs import ESCAPES

PACKAGE = Path(__file__).resolve().parents[2]
CELL_LIMIT = 1200  # seconds: a cpu run on a busy machine
QUIET = ["--IPKernelApp.log_level=CRITICAL"]  # what a kernel tells its administrator is not for the reader


def run_all(lessons: list[Lesson], mode: str, say=print) -> None:
    """Execute the lessons that are not kept yet, and say which runs. One that is done stays done, whatever comes."""
    waiting = [each for each in lessons if not _kept(notebook_path(each), mode).is_file()]
    if waiting and mode == "gpu" and not has_gpu():
        raise CourseError("Torch finds no GPU here. Choose --mode cpu, or run this where there is one.")
    for place, each in enumerate(waiting):
        number = f"{len(lessons) - len(waiting) + place + 1} of {len(lessons)}"
        say(f"{number}: {each.id} {each.title}, in {mode} mode{_left(waiting[place:], mode)}", flush=True)
        executed(notebook_path(each), mode)


def executed(path: Path, mode: str):
    """The lesson's notebook with its outputs. CourseError names the lesson, the cell and the error."""
    import nbformat

    kept = _kept(path, mode)
    if not kept.is_file():
        write(kept, nbformat.writes(_execute(nbformat.read(path, as_version=4), path, mode)))
    return nbformat.read(kept, as_version=4)


def _kept(path: Path, mode: str) -> Path:
    return cache_dir() / "site" / f"{path.stem}-{mode}-{fingerprint(path, mode)}.ipynb"


def _left(waiting: list[Lesson], mode: str) -> str:
    """The minutes that these lessons took where they were measured; nothing where one was not."""
    seconds = [run_times(each).get(mode) for each in waiting]
    return "" if None in seconds else f"; {sum(seconds) / 60:.0f} minutes are left, if nothing else runs here"


def fingerprint(path: Path, mode: str) -> str:
    """Changes when the lesson, the package, a saved run or torch does."""
    from importlib.metadata import version

    parts = [path.read_bytes(), mode.encode(), version("torch").encode(), _package()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@cache
def _package() -> bytes:
    """What a lesson runs and reads; these pages themselves are not part of it."""
    code = [each for each in PACKAGE.rglob("*.py") if "course/" not in each.relative_to(PACKAGE).as_posix()]
    code += [PACKAGE / "course" / name for name in ("budget.py", "saved.py")]
    runs = [*(PACKAGE / "_results").glob("*.json"), *(PACKAGE.parent / "results" / "lessons").glob("*.json")]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sorted(code) + sorted(runs))).digest()


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
            extra_arguments=QUIET,
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
                said = ESCAPES.sub("", output.evalue).rstrip(".")
                raise CourseError(
                    f"{path.stem}, cell {number} ({cell.get('id')}): {output.ename}: {said}. "
                    "Run this lesson in JupyterLab, mend it, and build the site again."
                )
