"""What a batch leaves in its folder: grades.csv, exercises.csv, a page for each learner, and the class page."""

import csv
import io
from pathlib import Path
from urllib.parse import quote

from ..files import write as write_file
from .batch import Settings
from .classpage import class_page
from .feedback import feedback
from .records import Submission
from .sandbox import Sandbox
from .totals import totals

Graded = list[tuple[Submission, dict]]


def write(out: Path, graded: Graded, settings: Settings, sandbox: Sandbox) -> None:
    """All reports, each written beside and moved into place."""
    rows = []
    for name, (submission, record) in zip(_file_names(graded), graded, strict=True):
        write_file(out / "feedback" / f"{name}.html", feedback(submission.learner, record))
        rows.append((submission.learner, f"feedback/{quote(name)}.html", record))
    how = [sandbox.sentence, f"Seed {settings.seed}.", "Only core exercises." if settings.core else ""]
    write_file(out / "class.html", class_page(rows, how))
    write_file(out / "grades.csv", _grades(graded))
    write_file(out / "exercises.csv", _exercises(graded))


def _file_names(graded: Graded) -> list[str]:
    """A name for each page: the learner's, and the lesson; a number where two would be the same."""
    names: list[str] = []
    for submission, record in graded:
        wanted = f"{submission.learner}_{record.get('lesson', 'x')}"
        taken = {each.lower() for each in names}
        free = (wanted, *(f"{wanted}-{n}" for n in range(2, len(graded) + 2)))
        names.append(next(each for each in free if each.lower() not in taken))
    return names


def _grades(graded: Graded) -> str:
    rows = []
    for submission, record in graded:
        points, most = totals(record)
        looks = {mark["status"] for mark in record.get("marks", {}).values()} & {"tampered", "copied", "died", "time"}
        percent = round(100 * points / most, 1) if most else ""
        rows.append([submission.learner, record.get("lesson", ""), points, most, percent,
                     "not graded" if "error" in record else "graded", record.get("error") or ", ".join(sorted(looks)),
                     submission.path.name])  # fmt: skip
    return _csv(["learner", "lesson", "points", "max_points", "percent", "status", "look_at", "file"], rows)


def _exercises(graded: Graded) -> str:
    rows = [[submission.learner, record["lesson"], name, mark["status"], mark["points"], mark["max_points"],
             mark["advice"] or "", "; ".join(mark["notes"])]
            for submission, record in graded if "error" not in record
            for name, mark in record["marks"].items()]  # fmt: skip
    return _csv(["learner", "lesson", "exercise", "status", "points", "max_points", "advice", "notes"], rows)


def _csv(heads: list[str], rows: list[list]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([[_harmless(each) for each in row] for row in rows])
    return file.getvalue()


def _harmless(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets a quote before it."""
    if isinstance(value, str):
        text = "".join(each if each.isprintable() else " " for each in value)
        return "'" + text if text[:1] in "=+-@" and text else text
    return value
