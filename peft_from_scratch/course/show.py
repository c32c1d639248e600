"""`python -m peft_from_scratch progress`: the learner's points as a table."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from ..check.lookup import lessons
from ..check.predictions import calibration
from ..check.words import say
from .points import Summary, export, reset, summary
from .progress import progress_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reset", metavar="LESSON", help="start a lesson anew ('all': every one); the old log is kept")
    parser.add_argument("--export", metavar="FILE", type=Path, help="copy the log to a new file")


def run(args: argparse.Namespace) -> int:
    if args.reset:
        return _reset(args.reset)
    if args.export:
        return _export(args.export)
    found = summary()
    say(*table(found), *next_step(found), "", str(calibration()), "", f"Kept in {progress_path()}")
    return 0


def table(found: Summary) -> list[str]:
    """One line an exercise that was checked, one a quiz."""
    if not found.exercises and not found.quizzes:
        return ["Nothing checked yet. Open a notebook and run its first check."]
    lines = [f"{'exercise':<28}{'points':>9}{'first try':>11}{'tries':>7}{'hints':>7}  solution"]
    for name, each in sorted(found.exercises.items(), key=lambda item: item[1].lesson):
        points = f"{each.best} of {each.max_points}" if each.max_points else "-"
        lines.append(
            f"{('✓ ' if each.passed else '  ') + name:<28}{points:>9}{each.first:>11}{each.tries:>7}"
            f"{each.hints:>7}  {'seen' if each.solution else ''}".rstrip()
        )
    for name, each in sorted(found.quizzes.items()):
        lines.append(
            f"  quiz {name}: {len(each.right)} right, {len(each.right_first)} of them at the first try, "
            f"{len(each.questions)} answered"
        )
    return [*lines, f"{found.points} of {found.max_points} points in what was checked so far."]


def next_step(found: Summary) -> list[str]:
    """The first core exercise, in the order of the lessons, that has not been passed; [] where there is no torch."""
    if find_spec("torch") is None:  # the exercises are written in it
        return []
    for lesson in lessons().values():
        for task in lesson.exercises:
            if task.tier == "core" and not (task.name in found.exercises and found.exercises[task.name].passed):
                return [f"Next: {task.name}, {task.title.rstrip('.')} (lesson {lesson.id}, {task.minutes} minutes)."]
    return []


def _reset(lesson: str) -> int:
    if lesson != "all" and lesson not in lessons():
        say(f"There is no lesson {lesson!r}. Lessons: {', '.join(lessons()) or 'none'}; or 'all'.")
        return 2
    aside = reset(None if lesson == "all" else lesson)
    say(f"Started anew; the old log is {aside}." if aside else "There is nothing to reset yet.")
    return 0


def _export(to: Path) -> int:
    try:
        say(f"Copied to {export(to)}.")
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
