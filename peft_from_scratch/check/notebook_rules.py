"""The limits of a lesson's notebook: length, headings, alt text, no outputs, and a check for each exercise."""

import re
from pathlib import Path

from .lookup import UnknownName, lesson

MAX_CELLS, MAX_WORDS, MAX_LINES, MAX_STUB_LINES, MAX_FIRST_LINES = 60, 3000, 15, 25, 3


def validate_notebook(path: Path | str) -> list[str]:
    """Every violation in one sentence; empty where the notebook keeps all limits."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```", "", prose, flags=re.DOTALL)
    return [
        *_length(notebook, prose),
        *_code(notebook),
        *_headings(prose),
        *_images(prose),
        *_exercises(notebook, Path(path).stem),
    ]


def _length(notebook, prose: str) -> list[str]:
    cells, words = len(notebook.cells), len(prose.split())
    found = [f"{cells} cells; at most {MAX_CELLS}"] if cells > MAX_CELLS else []
    return found + ([f"{words} words; at most {MAX_WORDS}"] if words > MAX_WORDS else [])


def _code(notebook) -> list[str]:
    found = []
    code = [(number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for order, (number, cell) in enumerate(code):
        lines = len(cell.source.strip().splitlines())
        stub = "exercise" in cell.metadata.get("pfs", {})
        limit = MAX_FIRST_LINES if order == 0 else MAX_STUB_LINES if stub else MAX_LINES
        if lines > limit:
            found.append(f"cell {number} has {lines} lines; at most {limit}")
        if cell.outputs or cell.execution_count is not None:
            found.append(f"cell {number} holds an output; clear it")
    return found


def _headings(prose: str) -> list[str]:
    levels = [(len(marks), text) for marks, text in re.findall(r"^(#{1,6}) +(.+)$", prose, re.MULTILINE)]
    ones = sum(level == 1 for level, _ in levels)
    found = [] if ones == 1 else [f"{ones} headings of level 1; exactly one"]
    for (before, _), (level, text) in zip(levels, levels[1:], strict=False):
        if level > before + 1:
            found.append(f"heading {text!r} skips a level (from {before} to {level})")
    return found


def _images(prose: str) -> list[str]:
    found = [
        f"image {target} has no alt text"
        for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]*)", prose)
        if not alt.strip()
    ]
    tags = re.findall(r"<img\b[^>]*>", prose, re.IGNORECASE)
    return found + [f"image {tag} has no alt text" for tag in tags if not re.search(r"""\balt=["']\s*[^"'\s]""", tag)]


def _exercises(notebook, stem: str) -> list[str]:
    from .notebooks import cell_of, check_cells

    try:
        one = lesson(stem[:2])
    except UnknownName as error:
        return [str(error)]
    checks = list(check_cells(notebook).values())
    known = [task.name for task in one.exercises]
    found = [f"check({name!r}) is no exercise of lesson {one.id}" for name in checks if name not in known]
    for task in one.exercises:
        if task.name not in checks:
            found.append(f"exercise {task.name} has no check cell")
        if cell_of(notebook, task) is None:
            found.append(f"exercise {task.name} has no cell that defines {task.defines}")
    if not found and checks != known:
        found.append(f"the checks come in the order {checks}, the exercises in the order {known}")
    return found
