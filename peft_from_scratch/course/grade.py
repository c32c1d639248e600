"""`peft-course grade SUBMISSIONS... --out DIR`: marks, a page for each learner, a page for the class."""

import argparse
import os
import sys
from pathlib import Path

from ..check.lookup import UnknownName, lesson, lessons
from ..check.words import say
from .errors import CourseError
from .grading import records, reports
from .grading.batch import Batch, Settings
from .grading.sandbox import KINDS, find_sandbox
from .machine import cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("submissions", nargs="+", type=Path, metavar="SUBMISSION", help="notebooks, or folders of them")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where grades, pages and records go")
    parser.add_argument("--seed", default="0", help="the seed of the checks: the class's, or one that nobody knows")
    parser.add_argument("--lesson", help="grade every file as this lesson (default: each file tells)")
    parser.add_argument("--core", action="store_true", help="only the exercises marked core")
    parser.add_argument("--workers", type=int, default=cores(), help="files graded at a time (default: one a core)")
    parser.add_argument("--seconds", type=float, default=5.0, help="limit for running one cell (default 5)")
    parser.add_argument("--memory", type=int, default=1024, metavar="MB", help="limit for one answer (default 1024)")
    parser.add_argument("--sandbox", choices=KINDS, help="use this one (default: the strongest that works)")


def run(args: argparse.Namespace) -> int:
    """Grade, report. 0 also where a file could not be graded: its row says so; 1 where a lesson itself does not run."""
    if not hasattr(os, "fork"):
        raise CourseError("Grading needs Linux or macOS; on Windows run it in WSL.")
    for name in ("workers", "seconds", "memory"):
        if getattr(args, name) <= 0:
            raise CourseError(f"--{name} must be more than 0; without it, it is chosen well.")
    settings = Settings(args.seed, _lesson(args.lesson), args.core, args.seconds, args.memory)
    found = records.collect(args.submissions, {f"{one.id}_{one.slug}" for one in lessons().values()})
    if not found:
        raise CourseError("There is no .ipynb file in what you named.")
    sandbox = find_sandbox(args.sandbox)
    if args.sandbox and sandbox.kind != args.sandbox:
        raise CourseError(f"--sandbox {args.sandbox} does not work here. {sandbox.sentence}")
    print(sandbox.sentence, file=sys.stderr, flush=True)
    batch = Batch(found, args.out / "records", settings, lambda text: say(text))
    graded = batch.run(sandbox, args.workers)
    reports.write(args.out, graded, settings, sandbox)
    say(f"Grades: {args.out / 'grades.csv'}", f"The class: {args.out / 'class.html'}")
    again = {record["error"] for _, record in graded if "again" in record}
    if again:
        raise CourseError(" ".join(sorted(again)) + " Repair that, and run this again: the rest is kept.")
    return 0


def _lesson(name: str | None) -> str | None:
    try:
        return lesson(name).id if name else None
    except UnknownName as error:
        raise CourseError(str(error)) from None
