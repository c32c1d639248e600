"""`course print`: one PDF a lesson, printed by the Chromium or Chrome that is installed.

What a prediction reveals is left out: on paper there is room to write the prediction down.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from html import escape
from pathlib import Path

from ..quiz.load import find_quiz, load_quiz, quiz_names
from .errors import CourseError
from .files import folder, write
from .lessons import notebook_path
from .site import lesson_arguments, require

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
LIMIT = 180  # seconds for one lesson, on a busy machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    lesson_arguments(parser, "PDFs")


def run(args: argparse.Namespace) -> int:
    require()
    from .site.build import choose
    from .site.execute import run_all

    chosen, browser = choose(args.lesson), find_browser()
    folder(args.out)
    run_all(chosen, args.mode)
    for lesson in chosen:
        path = notebook_path(lesson)
        print(write(args.out / f"{path.stem}.pdf", pdf(handout(lesson, path, args.mode), browser)))
    return 0


def find_browser() -> str:
    """The browser that prints. CourseError where there is none."""
    found = next((place for name in BROWSERS if (place := shutil.which(name))), None)
    if found is None and MAC.is_file():
        found = str(MAC)
    if found is None:
        raise CourseError(
            "Printing needs Chromium or Chrome, and none is installed. Install one (Debian: apt install chromium), "
            "or open the pages of `peft-course site` and print them from your browser."
        )
    return found


def handout(lesson, path: Path, mode: str) -> str:
    """The lesson as one page with its styles inside, its quiz as questions without answers."""
    from ..quiz.web.page import styles
    from .site.build import ASSETS
    from .site.execute import executed
    from .site.lesson import lesson_body
    from .site.links import site_links
    from .site.markdown import Page

    known = [name for name in quiz_names() if name.startswith(f"{lesson.id}_")]
    quiz = load_quiz(find_quiz(known[0])) if known else None
    body = lesson_body(executed(path, mode), Page(site_links), quiz, mode)
    style = styles() + (ASSETS / "site.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{lesson.id} '
        f"{escape(lesson.title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>"
    )


def pdf(page: str, browser: str) -> bytes:
    """The page as a PDF. CourseError if the browser makes none."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_text(page, encoding="utf-8")
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile",
        ]
        command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has no sandbox there
        try:
            done = subprocess.run(
                [*command, f"--print-to-pdf={made}", source.as_uri()], capture_output=True, text=True, timeout=LIMIT
            )
            said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        except subprocess.TimeoutExpired:
            said = f"it did not end within {LIMIT} seconds"
        if not made.is_file() or not made.stat().st_size:
            raise CourseError(
                f"{Path(browser).name} printed nothing ({said}). Close other programs and run this again."
            )
        return made.read_bytes()
