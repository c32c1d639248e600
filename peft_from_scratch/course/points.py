"""Points from the log: per exercise the first and best try, help taken, and each quiz; reset and export."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .progress import progress_path, read_events, rewrite


@dataclass
class ExercisePoints:
    """Points of one exercise; `tries` counts checks of a written answer."""

    lesson: str
    max_points: int = 0
    first: int = 0
    best: int = 0
    tries: int = 0
    hints: int = 0
    solution: bool = False
    passed: bool = False


@dataclass
class QuizPoints:
    """Questions of one quiz answered, and those answered right at the first try."""

    questions: set[str] = field(default_factory=set)
    right_first: set[str] = field(default_factory=set)
    right: set[str] = field(default_factory=set)


@dataclass
class Summary:
    exercises: dict[str, ExercisePoints]
    quizzes: dict[str, QuizPoints]

    @property
    def points(self) -> int:
        return sum(each.best for each in self.exercises.values())

    @property
    def max_points(self) -> int:
        return sum(each.max_points for each in self.exercises.values())


def summary(events: list[dict] | None = None) -> Summary:
    """Points per exercise and quiz, from these events or from the log."""
    found = Summary({}, {})
    for event in read_events() if events is None else events:
        if event["kind"] in ("check", "hint", "solution") and "exercise" in event:
            _add(found.exercises.setdefault(event["exercise"], ExercisePoints(event.get("lesson", ""))), event)
        elif event["kind"] == "quiz" and "quiz" in event:
            _add_quiz(found.quizzes.setdefault(event["quiz"], QuizPoints()), event)
    return found


def reset(lesson: str | None = None) -> Path | None:
    """Forget one lesson's events, or all; the old file stays beside under another name, which is returned."""
    path = progress_path()
    if not path.exists():
        return None
    return rewrite(path, lambda event: lesson is not None and _lesson(event) != lesson)


def export(to: Path) -> Path:
    """Copy the log to a file that does not exist yet."""
    read_events()  # moves unreadable lines aside first
    if to.exists():
        raise FileExistsError(f"{to} exists; choose another name.")
    if not progress_path().exists():
        raise FileNotFoundError(f"There is no progress yet at {progress_path()}.")
    return Path(shutil.copyfile(progress_path(), to))


def _lesson(event: dict) -> str:
    return str(event.get("lesson", event.get("quiz", "")))


def _add(entry: ExercisePoints, event: dict) -> None:
    if event["kind"] == "hint":
        entry.hints += 1
    elif event["kind"] == "solution":
        entry.solution = True
    else:
        points = event.get("points", 0)
        entry.max_points = event.get("max_points", entry.max_points)
        if event.get("status") in ("failed", "passed"):
            entry.tries += 1
            entry.first = points if entry.tries == 1 else entry.first
        entry.best = max(entry.best, points)
        entry.passed = entry.passed or event.get("status") == "passed"


def _add_quiz(entry: QuizPoints, event: dict) -> None:
    question = str(event.get("question"))
    right = event.get("correct") is True
    if right and question not in entry.questions:
        entry.right_first.add(question)
    if right:
        entry.right.add(question)
    entry.questions.add(question)
