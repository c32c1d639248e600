"""`peft-course doctor`: one line for each thing the course rests on; each problem in one sentence with its remedy.

It starts on a bare Python: what only the course's libraries can look at is imported once they are there.
"""

import argparse
import textwrap

from .finding import Finding
from .software import libraries, python


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-hashes", action="store_true", help="do not look at models and data (saves a few seconds)")


def run(args: argparse.Namespace) -> int:
    """Print every finding; 1 where there is a problem, else 0."""
    basis = [python(), *libraries()]
    try:
        from .examine import examine, plan
    except ImportError:
        tell(basis)
        print("\nNothing else can be looked at before that. Mend it, and run this again.")
        return 1
    found = [*basis, *examine(hashes=not args.no_hashes)]
    tell(found)
    problems = sum(each.kind == "problem" for each in found)
    print("", f"{problems} problem{'s' * (problems != 1)}." if problems else "Ready.", *plan(), sep="\n")
    return int(bool(problems))


def tell(found: list[Finding]) -> None:
    """A paragraph for each, as wide as a terminal."""
    for each in found:
        print(textwrap.fill(str(each), 96, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
