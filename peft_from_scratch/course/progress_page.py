"""`peft-course progress`: the learner's own page, export and import of progress, and a statement of completion.

In a notebook: `from peft_from_scratch.course.progress_page import my_progress; my_progress()`.
"""

import argparse
import sys
from datetime import date
from html import escape
from pathlib import Path

from ..check.words import say
from . import merge_progress, show
from .errors import CourseError
from .files import write
from .points import export, summary
from .progress import progress_path, read_events
from .progress_html import progress_html
from .statement import statement_html


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page as HTML")
    parser.add_argument("--export", type=Path, metavar="FILE", help="copy the log to a new file, before a session ends")
    parser.add_argument("--import", type=Path, metavar="FILE", dest="import_", help="add an exported log to this one")
    parser.add_argument("--statement", type=Path, metavar="FILE", help="write a statement of completion as HTML")
    parser.add_argument("--name", default="", help="the name on the statement")
    parser.add_argument("--reset", metavar="LESSON", help="start a lesson anew ('all': every one); the old log is kept")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; without an option, print the table."""
    if args.import_:
        say(merge_progress.merge(args.import_))
    if args.export:
        say(f"Copied to {export(args.export)}.")
    if args.reset:
        return show.run(argparse.Namespace(reset=args.reset, export=None))
    if args.statement:
        _new(args.statement, statement_html(args.name or _no_name(), read_events(), date.today()))
    if args.html:
        write(args.html, progress_html(read_events()))
        say(f"Written to {args.html}.")
    if not any((args.import_, args.export, args.statement, args.html)):
        found = summary()
        say(*show.table(found), *show.next_step(found), "", f"Kept in {progress_path()}")
    return 0


def my_progress() -> None:
    """Show the page in a notebook; elsewhere print the table."""
    if not _in_notebook():
        found = summary()
        say(*show.table(found), *show.next_step(found))
        return
    from IPython.display import HTML, display

    # a frame of its own, so that the page's style does not reach the notebook
    page = escape(progress_html(read_events()))
    display(HTML(f'<div><iframe title="Your progress" srcdoc="{page}" width="100%" height="600"></iframe></div>'))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _new(path: Path, content: str) -> None:
    if path.exists():
        raise CourseError(f"{path} exists; choose another name, so that an older statement stays as it is.")
    write(path, content)
    say(f"Written to {path}.")


def _no_name() -> str:
    raise CourseError("A statement needs a name: add --name 'Ada Lovelace'.")
