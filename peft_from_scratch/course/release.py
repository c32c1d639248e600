"""`peft-course release --path 3h --out class/`: student copies of the notebooks for one class."""

import argparse
import json
import re
import secrets
from pathlib import Path

from ..check.words import say
from .errors import CourseError
from .files import write
from .lessons import notebook_path
from .nbgrader import CONFIG, source_notebook
from .routes import ROUTES, Leg, route
from .student import student_copy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", choices=ROUTES, default="full", help="three hours, one day, or everything (default)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for the copies")
    parser.add_argument("--seed", help="the class's seed for all checks (default: a new one, which is printed)")
    parser.add_argument("--core", action="store_true", help="only core exercises; the references stand for the others")
    parser.add_argument("--all", action="store_true", help="all exercises, also where the path takes the core ones")
    parser.add_argument("--no-hints", action="store_true", help="take hint and solution out of the notebooks")
    parser.add_argument("--nbgrader", action="store_true", help="write nbgrader's source/ layout instead")


def run(args: argparse.Namespace) -> int:
    """Write the copies; 1 with a sentence where something is in the way."""
    seed = args.seed or secrets.token_hex(4)
    if not re.fullmatch(r"[\w.-]{1,40}", seed):
        raise CourseError(f"The seed {seed!r} has a character that is none of letters, digits, _ . - ; choose another.")
    if args.core and args.all:
        raise CourseError("--core and --all contradict each other: leave one out.")
    legs, missing = route(args.path)
    legs = [Leg(leg.lesson, args.core or leg.core and not args.all) for leg in legs]
    files = dict(_file(leg, args, seed) for leg in legs)
    if args.nbgrader:
        files[args.out / "nbgrader_config.py"] = CONFIG
    write_all(files)
    say(*(f"{path}" for path in files), *_told(legs, missing, seed))
    return 0


def _file(leg: Leg, args: argparse.Namespace, seed: str) -> tuple[Path, str]:
    path = notebook_path(leg.lesson)
    book = student_copy(json.loads(path.read_text(encoding="utf-8")), leg.lesson, seed, leg.core, not args.no_hints)
    place = args.out / path.name
    if args.nbgrader:
        book = source_notebook(book, leg.lesson, leg.core)
        place = args.out / "source" / path.stem / path.name
    return place, json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def write_all(files: dict[Path, str]) -> None:
    """All or nothing: a file that is there with another content stops it before anything is written."""
    for path, content in files.items():
        if path.exists() and path.read_text(encoding="utf-8") != content:
            raise CourseError(f"{path} exists and is another; choose a new folder, or move it away.")
    for path, content in files.items():
        write(path, content)


def _told(legs: list[Leg], missing: list[str], seed: str) -> list[str]:
    count = f"{len(legs)} lesson{'s' * (len(legs) != 1)}, {sum(map(_minutes, legs))} minutes of exercises."
    core = [leg.lesson.id for leg in legs if leg.core]
    command = f"peft-course grade SUBMISSIONS --out graded --seed {seed}" + " --core" * (len(core) == len(legs))
    lines = ["", f"{count} The class's seed is {seed}. To grade:", f"  {command}"]
    if 0 < len(core) < len(legs):
        lines.append(f"  and --core for the lessons {', '.join(core)}, of which only the core exercises are set")
    if missing:
        lines.append(f"The path also names lessons that this version does not have: {', '.join(missing)}.")
    return lines


def _minutes(leg: Leg) -> int:
    return sum(task.minutes for task in leg.lesson.exercises if task.tier == "core" or not leg.core)
