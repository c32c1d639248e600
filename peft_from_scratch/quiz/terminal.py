"""The command `python -m peft_from_scratch quiz 00`."""

import argparse
import sys

from .ask import play
from .listing import render_text
from .load import QuizError, load_quiz, quiz_names, schema
from .model import Quiz


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the sub-command `quiz`."""
    parser.add_argument("name", nargs="?", help="the quiz: 00, start_here or a .yaml file; without it, a list")
    parser.add_argument("--text", action="store_true", help="print the questions and leave")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a quiz file")
    parser.add_argument("--verify", action="store_true", help="for authors: check every key (runs the file's code)")


def run(args: argparse.Namespace) -> int:
    """Do what the arguments ask; 0 if it went well, 1 with one sentence if not."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console without Unicode prints ? instead of stopping
    try:
        return _run(args)
    except QuizError as error:
        print(error, file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    if args.schema:
        print(schema(), end="")
        return 0
    if args.name is None:
        print("Quizzes: " + ", ".join(quiz_names()) + "\nStart one with: python -m peft_from_scratch quiz 00")
        return 0
    quiz = load_quiz(args.name)
    if args.verify:
        return _verify(quiz)
    if args.text:
        print(render_text(quiz))
    else:
        play(quiz)
    return 0


def _verify(quiz: Quiz) -> int:
    from .verify import faults  # imports torch

    found = faults(quiz)
    print("\n".join(found) or f"Quiz {quiz.quiz}: every key was checked.")
    return 1 if found else 0
