"""Read a submitted file as data: any notebook that can be understood, nothing executed, every fault in a sentence."""

import json
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 300 * 2**20


class Unreadable(Exception):
    """The file is no notebook that can be graded; the message says why."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its text, and the exercise that its metadata names ("" for none)."""

    source: str
    exercise: str = ""


def read_cells(path: Path) -> tuple[list[Cell], list[str]]:
    """(code cells, notes). Formats 3 and 4; outputs are ignored, whatever their size."""
    size = path.stat().st_size
    notebook = _parse(path.read_bytes())
    notes = []
    if "worksheets" in notebook:
        notes.append("the notebook is of format 3; it was read as it is")
    if size > 20 * 2**20:
        notes.append(f"the file has {size / 2**20:.0f} MB of outputs; they were ignored")
    return [cell for cell in map(_cell, _raw_cells(notebook)) if cell], notes


def _parse(data: bytes) -> dict:
    if not data.strip():
        raise Unreadable("the file is empty.")
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError):
        raise Unreadable("it is not JSON: no notebook, or a damaged one. Save it anew as .ipynb.") from None
    if not isinstance(notebook, dict):
        raise Unreadable("it is JSON, but no notebook: there are no cells.")
    return notebook


def _raw_cells(notebook: dict) -> list:
    sheets = notebook.get("worksheets")
    cells = (
        [c for s in sheets if isinstance(s, dict) for c in _list(s.get("cells"))] if sheets else notebook.get("cells")
    )
    if not isinstance(cells, list):
        raise Unreadable("it is JSON, but no notebook: there are no cells.")
    return cells


def _cell(raw: object) -> Cell | None:
    if not isinstance(raw, dict) or raw.get("cell_type") != "code":
        return None
    source = raw.get("source", raw.get("input", ""))  # `input` is format 3
    source = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return Cell(source, _exercise(raw.get("metadata")))


def _exercise(metadata: object) -> str:
    pfs = metadata.get("pfs") if isinstance(metadata, dict) else None
    name = pfs.get("exercise") if isinstance(pfs, dict) else None
    return name if isinstance(name, str) else ""


def _list(value: object) -> list:
    return value if isinstance(value, list) else []
