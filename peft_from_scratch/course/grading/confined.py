"""Work in a child with a folder of its own, within limits, and, where it is a learner's code, under the police."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import police
from .children import Outcome, in_child
from .limits import NOBODY, PACKAGE, Limits, confine, may_drop

ANSWERS = (str(PACKAGE / "check"), str(PACKAGE / "_notebooks" / "instructor"), str(PACKAGE.parent / "tests"))


def confined(work: Callable[[], dict], limits: Limits, wall: float) -> Outcome:
    """Trusted work on what may be malformed: limits, but no police."""
    return _fork(lambda folder: work(), limits, wall, drop=False)


def judged(work: Callable[[list[str]], dict], limits: Limits, wall: float) -> Outcome:
    """Work that runs a learner's code; it is given the list in which the police writes."""
    return _fork(lambda folder: work(police.install(str(folder), ANSWERS)), limits, wall, drop=True)


def _fork(work: Callable[[Path], dict], limits: Limits, wall: float, drop: bool) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="answer-"))
    try:
        if drop and may_drop():
            os.chown(folder, NOBODY, NOBODY)
        return in_child(partial(work, folder), lambda keep: confine(folder, limits, wall, keep, drop), wall)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
