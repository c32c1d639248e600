"""`python -m peft_from_scratch.course.grading.worker`: a request a line in, a reply a line out, nothing else.

A request is {"file", "lesson" (or null), "core", "seconds", "memory_mb"}. The worker imports torch and rehearses a
lesson once, and forks a child for each file that is read and each answer that is judged. It never runs a learner's
code itself.
"""

import gc
import json
import linecache
import os
import sys
import types
import zlib
from functools import cache, partial
from pathlib import Path

import torch

from ...check.lookup import lesson as find_lesson
from ...check.lookup import lessons
from ..errors import CourseError
from . import guards
from .alike import fingerprints
from .children import Outcome, adopt_orphans, hide_memory
from .confined import confined, judged
from .judge import Case, judge
from .limits import Limits
from .picking import pick, which_lesson
from .reading import Cell, Unreadable, read_cells
from .rehearsal import Rehearsal, Stage, rehearse
from .trust import CANARIES
from .withheld import give_back, withhold

READING = Limits(memory_mb=4096)
READ_SECONDS = 30.0
MAX_SOURCE = 10_000


def main() -> None:
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    adopt_orphans()
    hide_memory()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a lesson prints is no reply
    lessons()
    _vanish()
    print(json.dumps({"ready": True}), file=replies)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=replies)


def _vanish() -> None:
    """Take the grader's modules off Python's list, so that an answer cannot import and change them."""
    for name in [name for name in sys.modules if name.startswith(__package__)]:
        del sys.modules[name]
    delattr(sys.modules[__package__.rpartition(".")[0]], "grading")
    sys.modules["__main__"] = types.ModuleType("__main__")


def answer(request: dict) -> dict:
    """The marks of one file, or {"error": why it cannot be graded}."""
    try:
        limits = Limits(request["seconds"], request["memory_mb"])
        read = _read(Path(request["file"]), request["lesson"])
        return _marks(read, limits, request["core"]) if "error" not in read else read
    except CourseError as error:
        return {"broken": str(error)}


def _read(path: Path, lesson: str | None) -> dict:
    """Cells and notes; in a child, since a file may be made to exhaust its reader."""
    outcome = confined(partial(_read_here, path, lesson), READING, READ_SECONDS)
    if outcome.reply is None:
        return {"error": "it cannot be read within the limits of time and memory."}
    return outcome.reply


def _read_here(path: Path, lesson: str | None) -> dict:
    try:
        cells, notes = read_cells(path)
    except Unreadable as error:
        return {"error": str(error)}
    one = find_lesson(lesson) if lesson else which_lesson(cells, lessons())
    if one is None:
        return {"error": "none of its cells belongs to a lesson of this course."}
    return {"lesson": one.id, "notes": notes, "cells": [[cell.source, cell.exercise] for cell in cells]}


@cache
def _rehearsed(lesson: str) -> tuple[Rehearsal, guards.Guards]:
    rehearsal = rehearse(find_lesson(lesson))
    linecache.clearcache()  # it holds the text of the references
    before = withhold()  # as it will be in the children
    recorded = guards.record([prop.test for stage in rehearsal.stages for prop in stage.task.properties])
    give_back(before)
    gc.collect()
    gc.freeze()  # so that children share these pages
    return rehearsal, recorded


def _marks(read: dict, limits: Limits, core: bool) -> dict:
    rehearsal, _ = _rehearsed(read["lesson"])
    cells = [Cell(*each) for each in read["cells"]]
    marks, earlier = {}, []
    for stage in rehearsal.stages:
        if core and stage.task.tier != "core":
            continue
        mark, source = _mark(rehearsal, stage, cells, tuple(earlier), limits)
        marks[stage.task.name] = mark
        if mark["status"] == "passed":
            earlier.append(source)
    return {"lesson": read["lesson"], "notes": read["notes"], "marks": marks}


def _mark(rehearsal: Rehearsal, stage: Stage, cells: list[Cell], earlier: tuple, limits: Limits) -> tuple[dict, str]:
    task = stage.task
    chosen = pick(task, stage.stub, cells, rehearsal.cells)
    mark = {"status": "missing", "points": 0, "max_points": task.points, "lines": [], "advice": None, "failed": [],
            "notes": chosen.notes}  # fmt: skip
    if chosen.source is None:
        return mark | {"advice": "there is no cell for this exercise."}, ""
    if chosen.source.strip() == stage.stub.strip():
        return mark | {"status": "unwritten", "advice": "not written yet"}, ""
    recorded = _rehearsed(rehearsal.lesson.id)[1]
    draw = zlib.crc32(f"{os.environ.get('PFS_SEED', '0')}/{chosen.source}".encode("utf-8", "replace"))
    case = Case(rehearsal, stage, chosen.source, earlier, recorded, limits.seconds, draw)
    wall = limits.seconds * (1 + len(earlier)) + task.time_limit * (1 + CANARIES) + 2
    outcome = judged(partial(judge, case), limits, wall)
    mark |= _told(outcome, wall)
    mark["notes"] = chosen.notes + mark["notes"]
    mark["source"] = chosen.source[:MAX_SOURCE]
    mark["alike"] = fingerprints(chosen.source) if mark["points"] else None
    return mark, chosen.source


def _told(outcome: Outcome, wall: float) -> dict:
    """What a child replied; else what its silence means."""
    if outcome.reply is not None:
        return outcome.reply
    said = {
        "time": f"the code did not end; it was stopped after {wall:.0f} seconds.",
        "forged": "the code spoke to the grader in the check's place.",
        "died": f"the code ended, or broke, its own process{_by(outcome.code)}.",
    }[outcome.why]
    status = {"time": "time", "forged": "tampered", "died": "died"}[outcome.why]
    return {"status": status, "points": 0, "advice": said, "lines": [f"✗ {said}"], "notes": []}


def _by(code: int) -> str:
    return f" (signal {os.WTERMSIG(code)})" if os.WIFSIGNALED(code) else ""


if __name__ == "__main__":
    main()
