"""A student's copy of a lesson's notebook: the class's seed, only its exercises, with hints or without."""

import copy
import json
import re

from ..check.exercise import Exercise, Lesson

GIVEN = "# given: this exercise is not part of your class"
_CHECK = re.compile(r"""^[^#\n]*=\s*check\(\s*["']([^"']+)["'].*\n?""", re.MULTILINE)
_HELP = re.compile(r"`(hint|solution)\(|\bhints?\b|^(Stuck|Passed)\?$")
_IMPORT = re.compile(r"^(from peft_from_scratch\.check import )(.*)$", re.MULTILINE)


def student_copy(notebook: dict, lesson: Lesson, seed: str, core: bool = False, hints: bool = True) -> dict:
    """A new notebook; the given one stays as it is."""
    book = copy.deepcopy(notebook)
    book["metadata"]["pfs"] = {"lesson": lesson.id, "seed": seed, "exercises": "core" if core else "all"}
    plant_seed(book, seed)
    if core:
        for task in lesson.exercises:
            if task.tier != "core":
                give(book, task)
    if not hints:
        for cell in book["cells"]:
            put(cell, without_hints(text(cell), cell["cell_type"]))
    book["cells"] = [cell for cell in book["cells"] if text(cell).strip()]
    return book


def plant_seed(book: dict, seed: str) -> None:
    """The class's seed in the first code cell, where every check finds it."""
    setup = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    put(setup, f'{text(setup).rstrip()}\n__import__("os").environ["PFS_SEED"] = {json.dumps(seed)}')


def give(book: dict, task: Exercise) -> None:
    """Put the reference in the place of an exercise that this class leaves out, so that the lesson goes on."""
    for cell in book["cells"]:
        if cell["metadata"].get("pfs", {}).get("exercise") == task.name:
            put(cell, f"{GIVEN}\n{task.reference}")
            cell["metadata"]["pfs"] = {"given": task.name}
        elif cell["cell_type"] == "code":
            put(cell, _CHECK.sub(lambda found: "" if found[1] == task.name else found[0], text(cell)))
        elif f"· {task.title}\n" in text(cell) + "\n":
            put(cell, text(cell) + "\n\n*In your class this one is given: read it, and go on.*")


def without_hints(source: str, kind: str) -> str:
    """No sentence that tells of hints and solutions, and no import of them. (The package still has both.)"""
    if kind == "code":
        return _IMPORT.sub(_fewer, source)
    return "\n\n".join(_paragraph(part) for part in source.split("\n\n") if _paragraph(part).strip())


def _fewer(found: re.Match) -> str:
    names = [name.strip() for name in found[2].split(",")]
    return found[1] + ", ".join(name for name in names if name not in ("hint", "solution"))


def _paragraph(part: str) -> str:
    if not re.search(r"`(hint|solution)\(", part) or part.lstrip().startswith(("```", "|", "<")):
        return part
    sentences = re.split(r"(?<=[.!?])\s+", part)
    kept = [each for each in sentences if not _HELP.search(each)]
    return " ".join(kept)


def text(cell: dict) -> str:
    """A cell's source as one string."""
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else source


def put(cell: dict, source: str) -> None:
    """Set a cell's source, in the list of lines that notebooks are stored with."""
    cell["source"] = source.splitlines(keepends=True)
