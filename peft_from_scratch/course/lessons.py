"""Where the notebook of a lesson lies: in an installed package, in a clone, or in a folder of your own."""

import os
from pathlib import Path

from ..check.exercise import Lesson
from .errors import CourseError

PACKAGE = Path(__file__).resolve().parent.parent


def notebook_folders() -> list[Path]:
    """PFS_NOTEBOOKS (joined by os.pathsep) first, then the installed or the cloned ones."""
    own = [Path(part) for part in os.environ.get("PFS_NOTEBOOKS", "").split(os.pathsep) if part]
    return [*own, PACKAGE / "_notebooks", PACKAGE.parent / "notebooks"]


def notebook_path(lesson: Lesson) -> Path:
    """The pristine notebook of a lesson; CourseError where there is none."""
    path = _find(lesson)
    if path is None:
        raise CourseError(
            f"Lesson {lesson.id} has no notebook here; reinstall the package, or clone the repository again."
        )
    return path


def has_notebook(lesson: Lesson) -> bool:
    """Whether the notebook of a lesson is there."""
    return _find(lesson) is not None


def _find(lesson: Lesson) -> Path | None:
    paths = (folder / f"{lesson.id}_{lesson.slug}.ipynb" for folder in notebook_folders())
    return next((path for path in paths if path.is_file()), None)
