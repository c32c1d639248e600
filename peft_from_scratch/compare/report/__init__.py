"""`python -m peft_from_scratch compare report`: tables and figures of a results folder, as one page and as Markdown."""

import argparse
import os
from pathlib import Path

from .page import markdown, page, save_figures
from .read import read_tables
from .sections import sections


def run(args: argparse.Namespace) -> int:
    """Read `args.results`; write report.html, report.md and report/*.png to `args.out`, or beside the runs."""
    tables = read_tables(args.results)
    if not tables:
        print(f"there are no runs in {args.results}: make some with `python -m peft_from_scratch compare`")
        return 2
    out = Path(args.out or args.results)
    try:
        write(out, args.results, tables)
    except OSError as error:
        print(f"the report cannot be written to {out}: {error}. Give another folder with --out")
        return 2
    print(f"report: {out / 'report.html'} and {out / 'report.md'}")
    return 0


def write(out: Path, folder: Path, tables: list, draws: int = 2000) -> None:
    """Everything is made before anything is written, so that a report that fails leaves the last one."""
    parts = list(sections(folder, tables, draws))
    files = {"report.html": page(parts), "report.md": markdown(parts, "report")}
    save_figures(parts, out / "report")
    for name, text in files.items():
        beside = out / f"{name}.part"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, out / name)
