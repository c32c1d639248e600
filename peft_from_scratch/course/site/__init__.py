"""`course site`: the course as static pages: no server, no network, no library in the browser."""

import argparse
import importlib.util
from pathlib import Path

from ..errors import CourseError

NEEDED = {  # module: what pip calls it
    "nbformat": "nbformat",
    "nbclient": "nbclient",
    "markdown_it": "markdown-it-py",
    "mdit_py_plugins": "mdit-py-plugins",
    "latex2mathml": "latex2mathml",
    "pygments": "pygments",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    lesson_arguments(parser, "pages")


def lesson_arguments(parser: argparse.ArgumentParser, made: str) -> None:
    """What every command takes that executes lessons and writes `made` from them."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"where the {made} go")
    parser.add_argument(
        "--mode",
        choices=("ci", "cpu", "gpu"),
        default="cpu",
        help="how the lessons are executed: ci, tiny random models in seconds; cpu, real models in minutes (default)",
    )
    parser.add_argument("--lesson", action="append", metavar="NN", help="only this lesson (may be given again)")


def run(args: argparse.Namespace) -> int:
    require()
    from .build import build

    pages = build(args.out, args.mode, args.lesson)
    print(f"{pages} pages. Open {args.out / 'index.html'}; the folder needs no server and no network.")
    return 0


def require() -> None:
    """CourseError if a library of the extra `site` is missing."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CourseError(f"Not installed: {', '.join(missing)}. Run: pip install {' '.join(missing)}")
