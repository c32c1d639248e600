"""Run a lesson's notebook untouched or solved, and measure it. (Its form is judged in notebook_rules.py.)

nbformat and nbclient are imported inside: they come with jupyterlab or the dev extra, and Colab has them.
"""

import os
import re
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..course.points import summary
from ..course.progress import read_events
from .exercise import Exercise
from .lookup import exercise
from .notebook_rules import validate_notebook
from .session import defined_names

__all__ = ["RunResult", "cell_of", "check_cells", "run_notebook", "solve", "validate_notebook"]

_CHECK = re.compile(r"""^(?!\s*#).*\bcheck\(\s*["']([^"']+)["']""", re.MULTILINE)
_PEAK = """
try:
    import resource, sys
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
except ImportError:
    import psutil
    print(psutil.Process().memory_info().peak_wset / 2**20)
"""


@dataclass(frozen=True)
class RunResult:
    """`outputs` holds the text of each cell; `errors` the cell index, name and message of each exception; `pictures`
    the alternative text of each figure, "" where it has none."""

    seconds: float
    peak_mb: float
    outputs: tuple[str, ...]
    events: tuple[dict, ...]
    errors: tuple[tuple[int, str, str], ...]
    points: int = 0
    max_points: int = 0
    pictures: tuple[str, ...] = ()
    slowest: float = 0.0  # seconds of the slowest cell


def run_notebook(
    path: Path | str, solved: bool = False, mode: str = "ci", timeout: int = 300, env: dict[str, str] | None = None
) -> RunResult:
    """Run every cell in a fresh kernel, in the notebook's folder; with solved=True the references are the answers.

    The learner's progress is not touched; after a cell that fails the others still run.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    if solved:
        solve(notebook)
    count = len(notebook.cells)
    notebook.cells.append(nbformat.v4.new_code_cell(_PEAK))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "progress.jsonl"
        inside = {**os.environ, "PFS_PROGRESS": str(log), "PEFT_COURSE_MODE": mode, **(env or {})}
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(Path(path).resolve().parent)}},
        )
        start = time.monotonic()
        client.execute(env=inside)
        return _result(notebook.cells[:count], notebook.cells[count], time.monotonic() - start, read_events(log))


def solve(notebook) -> None:
    """Replace the body of each exercise cell by its reference, in place."""
    for name in check_cells(notebook).values():
        task = exercise(name)
        index = cell_of(notebook, task)
        if index is None:
            raise ValueError(f"no cell defines {task.defines!r} for the exercise {name!r}")
        notebook.cells[index].source = task.reference


def check_cells(notebook) -> dict[int, str]:
    """Index of each cell that calls check("name", ...), and the name."""
    return {
        number: found[1]
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and (found := _CHECK.search(cell.source))
    }


def cell_of(notebook, task: Exercise) -> int | None:
    """The exercise's cell: by its metadata, else the last cell before its check that defines its name."""
    for number, cell in enumerate(notebook.cells):
        if cell.metadata.get("pfs", {}).get("exercise") == task.name:
            return number
    checks = [number for number, name in check_cells(notebook).items() if name == task.name]
    last = checks[0] if checks else len(notebook.cells)
    named = [
        number
        for number, cell in enumerate(notebook.cells[:last])
        if cell.cell_type == "code" and set(task.names) <= defined_names(cell.source)
    ]
    return named[-1] if named else None


def _result(cells: list, peak, seconds: float, events: list[dict]) -> RunResult:
    errors, outputs, pictures = [], [], []
    for number, cell in enumerate(cells):
        outputs.append("".join(_text(each) for each in cell.get("outputs", [])))
        for each in cell.get("outputs", []):
            pictures += _pictures(each.get("data", {}))
            if each.output_type == "error":
                errors.append((number, each.ename, each.evalue))
    found = summary(events)
    measured = "".join(_text(each) for each in peak.outputs)
    return RunResult(
        seconds,
        float(measured or 0),
        tuple(outputs),
        tuple(events),
        tuple(errors),
        found.points,
        found.max_points,
        tuple(pictures),
        max((_seconds(cell) for cell in cells), default=0.0),
    )


def _seconds(cell) -> float:
    """How long the kernel worked on a cell; nbclient notes the times in its metadata."""
    told = cell.metadata.get("execution", {})
    times = [told.get(f"iopub.{what}") for what in ("status.busy", "status.idle")]
    if not all(times):
        return 0.0
    start, end = (datetime.fromisoformat(time.replace("Z", "+00:00")) for time in times)
    return (end - start).total_seconds()


def _pictures(data: dict) -> list[str]:
    """The alternative text of each picture in one output."""
    tags = re.findall(r"<img\b[^>]*>", data.get("text/html", ""))
    alts = [re.search(r'\balt="([^"]*)"', tag) for tag in tags]
    return [alt[1] if alt else "" for alt in alts] or [""] * ("image/png" in data)


def _text(output) -> str:
    return output.get("text") or output.get("data", {}).get("text/plain", "")
