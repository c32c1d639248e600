"""`course quiz`: every bank as a page, as plain text, and for Moodle, QTI, Anki and jupyterquiz."""

import argparse
from pathlib import Path

from ..quiz.export import FORMATS
from ..quiz.listing import render_text
from ..quiz.load import QuizError, load_quiz, quiz_names
from ..quiz.model import Quiz
from ..quiz.web import course_page, quiz_page
from .errors import CourseError
from .files import write

KINDS = ("html", "text", *FORMATS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="QUIZ", help="00, start_here or a .yaml file; without one, all")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--format", choices=KINDS, action="append", help="only this one (may be given again)")


def run(args: argparse.Namespace) -> int:
    try:
        quizzes = [load_quiz(name) for name in args.names or quiz_names()]
    except QuizError as error:
        raise CourseError(str(error)) from None
    kinds = args.format or KINDS
    written = [write(args.out / name, made) for quiz in quizzes for name, made in files(quiz, kinds).items()]
    if "html" in kinds and len(quizzes) > 1:
        written.append(write(args.out / "practice.html", course_page(quizzes)))
    print(f"{len(written)} files in {args.out}:", *(f"  {path.name}" for path in written), sep="\n")
    for kind in (each for each in kinds if each in FORMATS):
        print(f"{kind}: for {FORMATS[kind].reader}")
    return 0


def files(quiz: Quiz, kinds: list[str] | tuple[str, ...]) -> dict[str, str | bytes]:
    """File names and contents of one quiz."""
    made = {f"quiz_{quiz.quiz}{FORMATS[kind].suffix}": FORMATS[kind].make(quiz) for kind in kinds if kind in FORMATS}
    if "html" in kinds:
        made[f"quiz_{quiz.quiz}.html"] = quiz_page(quiz)
    if "text" in kinds:
        made[f"quiz_{quiz.quiz}.txt"] = render_text(quiz) + "\n"
    return made
