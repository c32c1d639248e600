"""Which cell answers which exercise: by its metadata, else by the names it defines; and which lesson this is."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...check.exercise import Exercise, Lesson
from ...check.session import defined_names
from ..student import GIVEN
from .reading import Cell

_CHECKED = re.compile(r"""\bcheck\(\s*["']([^"']+)["']""")


@dataclass(frozen=True)
class Answer:
    """The text that is graded for an exercise (None: there is no cell), and what the instructor should know of it."""

    source: str | None
    notes: list[str] = field(default_factory=list)


def which_lesson(cells: list[Cell], lessons: Mapping[str, Lesson]) -> Lesson | None:
    """The lesson that most cells belong to: by metadata and check lines, else by the names they define."""
    marked = Counter(name for cell in cells for name in {cell.exercise, *_CHECKED.findall(cell.source)})
    defined = Counter(name for cell in cells for name in defined_names(cell.source))

    def votes(one: Lesson) -> tuple[int, int]:
        return (sum(marked[each.name] for each in one.exercises),
                sum(all(defined[name] for name in each.names) for each in one.exercises))  # fmt: skip

    best = max(lessons.values(), key=votes, default=None)
    return best if best and any(votes(best)) else None


def pick(task: Exercise, stub: str, cells: list[Cell], pristine: set[str]) -> Answer:
    """The cell that answers `task`: written rather than untouched, marked rather than not, the last of several."""
    cells = [cell for cell in cells if not cell.source.startswith(GIVEN)]
    marked = [cell for cell in cells if cell.exercise == task.name]
    named = [cell for cell in cells if not cell.exercise and set(task.names) <= defined_names(cell.source)
             and cell.source.strip() not in pristine]  # fmt: skip
    found = [*named, *marked]
    if not found:
        return Answer(None, ["no cell answers it: it was deleted, or defines another name"])
    written = [cell for cell in found if cell.source.strip() != stub.strip()]
    whole = [cell for cell in written if set(task.names) <= defined_names(cell.source)]
    chosen = (whole or written or found)[-1]
    notes = [] if chosen.exercise else ["found by its name: the cell's metadata is gone"]
    if len({cell.source.strip() for cell in written}) > 1:
        notes.append(f"{len(written)} cells answer it; the last {'marked ' * bool(chosen.exercise)}one counts")
    return Answer(chosen.source, notes)
