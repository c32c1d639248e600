"""`python -m peft_from_scratch course NAME ...`, also `peft-course NAME ...`: what an instructor runs.

A command is a module with `add_arguments(parser)` and `run(args) -> exit code`, imported only when it is called. To add
one, add its line here. A command raises CourseError (or OSError) with one sentence; here it becomes exit code 1.
"""

import argparse
import importlib
import sys
from importlib.util import find_spec
from typing import NamedTuple, NoReturn

from .errors import CourseError, explain


class Command(NamedTuple):
    """The module in this folder, what it does, and an example: what somebody types after `peft-course`."""

    module: str
    what: str
    example: str


COMMANDS = {
    "doctor": Command("doctor", "is this machine ready for the course? each problem with its remedy", "doctor"),
    "progress": Command("progress_page", "your page of points, export, import, statement", "progress --html me.html"),
    "release": Command("release", "student copies of the notebooks for a class", "release --path 3h --out class/"),
    "stamp": Command("stamp", "write the repository's address into badges and set-up lines", "stamp ada/peft@v2"),
    "grade": Command("grade", "grade submitted notebooks", "grade inbox/*.ipynb --out graded/ --seed autumn"),
    "quiz": Command("quiz_files", "quizzes as pages and text, and exports for other systems", "quiz --out quiz-pages/"),
    "site": Command("site", "the course as static pages", "site --out site/"),
    "slides": Command("slides", "slides with speaker notes", "slides --out slides/"),
    "print": Command("handouts", "one printable handout a lesson", "print --out handouts/"),
    "room": Command("room", "serve everything to a room over its own network", "room --port 8000"),
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says what is wrong and where the example is, in place of every option there is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nWhat it takes, with an example: {self.prog} --help\n")


def available() -> dict[str, Command]:
    """The commands whose module is there."""
    return {name: each for name, each in COMMANDS.items() if find_spec(f"{__package__}.{each.module}")}


def main(argv: list[str] | None = None) -> int:
    """The console script `peft-course`: run one command; its one-sentence error becomes exit code 1."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console without Unicode prints ? instead of stopping
    try:
        args = parser(argv).parse_args(argv)
        return args.run(args)
    except CourseError as error:
        print(error, file=sys.stderr)
    except ModuleNotFoundError as error:
        print(
            f"{error.name} is not installed. Run: pip install -e . (in a clone), or install the package anew.",
            file=sys.stderr,
        )
    except OSError as error:
        print(explain(error), file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept", file=sys.stderr)
        return 130
    return 1


def parser(argv: list[str]) -> argparse.ArgumentParser:
    """One sub-command a line of COMMANDS; only the module of the one in `argv` is imported."""
    top = Parser(prog="peft-course", description="What an instructor runs.")
    commands = top.add_subparsers(metavar="NAME", required=True)
    for name, each in available().items():
        sub = commands.add_parser(
            name, help=each.what, description=each.what, epilog=f"example: peft-course {each.example}"
        )
        if name in argv[:1]:
            module = importlib.import_module(f"{__package__}.{each.module}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return top


def add_arguments(course: argparse.ArgumentParser) -> None:
    """The command `course` of `python -m peft_from_scratch`: everything behind it is read by `main`."""
    course.formatter_class = argparse.RawDescriptionHelpFormatter
    course.epilog = "\n".join(
        [*(f"  {name:9} {each.what}" for name, each in available().items()), "", "example: course grade --help"]
    )
    course.add_argument("rest", nargs=argparse.REMAINDER, metavar="NAME ...")


def run(args: argparse.Namespace) -> int:
    """Run `course NAME ...`; without a name, show the names."""
    return main(args.rest or ["--help"])
