"""`peft-course doctor`: one line for each thing the course rests on; each problem in one sentence with its remedy."""

import argparse

from ...check.lookup import lessons
from ...check.words import say, wrap
from ..budget import budget
from ..machine import run_times
from .finding import Finding
from .machine import device, folders, models, ram
from .software import jupyter, libraries, python, sandbox, widgets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-hashes", action="store_true", help="do not look at models and data (saves a few seconds)")


def run(args: argparse.Namespace) -> int:
    """Print every finding; 1 where there is a problem, else 0."""
    found = examine(hashes=not args.no_hashes)
    for each in found:
        say(*wrap(str(each)))
    problems = [each for each in found if each.kind == "problem"]
    say("", f"{len(problems)} problem{'s' * (len(problems) != 1)}." if problems else "Ready.")
    say(*plan())
    return int(bool(problems))


def examine(hashes: bool = True) -> list[Finding]:
    """All findings, in the order in which one would repair them."""
    found = [python(), *libraries(), device(), ram(), *folders()]
    found += models() if hashes else []
    return [*found, jupyter(), widgets(), sandbox()]


def plan() -> list[str]:
    """What runs in which mode, and how long it took where it was measured."""
    try:
        lines = ["", f"Mode: {budget()}"]
    except (ValueError, RuntimeError) as error:
        return ["", f"✗ mode: {error}"]
    for one in lessons().values():
        took = ", ".join(f"{mode} {seconds:.0f} s" for mode, seconds in run_times(one).items())
        lines.append(
            f"  {one.id} {one.title:<28} {one.minutes:>4} minutes" + (f"; its runs took: {took}" if took else "")
        )
    return lines
