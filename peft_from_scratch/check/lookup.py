"""Find lessons and exercises by name: every file check/NN_slug.py defines one `LESSON`."""

import difflib
import importlib
import importlib.util
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .exercise import Exercise, Lesson


class UnknownName(LookupError):
    """No lesson, exercise or prediction has this name; the message offers the nearest one."""


def lessons() -> dict[str, Lesson]:
    """All lessons by id. `PFS_LESSONS` adds folders with lesson files of your own (joined by os.pathsep)."""
    return _load(os.environ.get("PFS_LESSONS", ""))


def lesson(id: str) -> Lesson:
    """The lesson with this id ("04"); also found by its slug ("04_lora", "lora")."""
    known = lessons()
    for each in known.values():
        if id in (each.id, each.slug, f"{each.id}_{each.slug}"):
            return each
    raise UnknownName(f"There is no lesson {id!r}. Lessons: {', '.join(known) or 'none'}.")


def exercise(name: str) -> Exercise:
    """The exercise with this name ("lora.forward")."""
    known = {each.name: each for one in lessons().values() for each in one.exercises}
    if name not in known:
        raise UnknownName(f"There is no exercise {name!r}. {near(name, known)}")
    return known[name]


def lesson_of(name: str) -> Lesson:
    """The lesson that poses this exercise."""
    exercise(name)
    return next(one for one in lessons().values() if any(each.name == name for each in one.exercises))


def near(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the known name most like `name`."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(known) or 'none yet'}."


@cache
def _load(extra: str) -> dict[str, Lesson]:
    folders = [Path(__file__).parent, *(Path(part) for part in extra.split(os.pathsep) if part)]
    found: dict[str, Lesson] = {}
    for path in (each for folder in folders for each in sorted(folder.glob("[0-9][0-9]_*.py"))):
        one = _module(path).LESSON
        found[one.id] = one  # a lesson in PFS_LESSONS replaces the package's of the same id
    names = [each.name for one in found.values() for each in one.exercises]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Two exercises share a name: {', '.join(twice)}. Rename one.")
    return found


def _module(path: Path):
    if path.parent == Path(__file__).parent:  # its name starts with a digit, which only importlib can say
        return importlib.import_module(f"{__package__}.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"pfs_lesson_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
