"""`python -m peft_from_scratch methods`: every method with its facts, read from the pages and from recorded results."""

import argparse
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

from .card import CATEGORIES, Card, cards

PACKAGE = Path(__file__).parent.parent
FOLDERS = ("methods", "optim", "combine", "quant")

RESULTS = PACKAGE.parent / "results" / "oracles.json"
COLUMNS = ("method", "paper", "category", "attaches to", "trains per site", "merges", "oracle", "page", "lines")


def pages() -> list[tuple[Card, str, int]]:
    """Each card with the path of its page and its number of lines, by category and then by year."""
    found = []
    modules = [
        importlib.import_module(entry.name)
        for folder in FOLDERS
        for entry in pkgutil.walk_packages([str(PACKAGE / folder)], f"peft_from_scratch.{folder}.")
    ]
    for module in modules:
        path = Path(module.__file__).relative_to(PACKAGE).as_posix()
        lines = len(inspect.getsource(module).splitlines())
        found += [(card, path, lines) for card in cards(module.__doc__ or "")]
    return sorted(found, key=lambda row: (CATEGORIES.index(row[0].category), row[0].year, row[0].name))


def rows() -> list[tuple[str, ...]]:
    """The table's cells as text."""
    recorded = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    table = []
    for card, path, lines in pages():
        oracle = told(recorded.get(card.name, {}))
        merges = "yes" if card.merges else "no"
        table.append(
            (card.name, card.paper, card.category, card.attaches, card.count, merges, oracle, path, str(lines))
        )
    return table


def told(seen: dict) -> str:
    """A library and the largest difference from it; where no library has the method, the properties that are tested."""
    if "oracle" in seen:
        return f"{seen['oracle']}: {seen['difference']:.0e}"
    return "; ".join(test.split("::test_")[1].replace("_", " ") for test in seen.get("properties", []))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print a page with links, as in methods.md")


def run(args: argparse.Namespace) -> int:
    table = rows()
    if args.markdown:
        print(markdown(table))
        return 0
    lines = [COLUMNS, *table]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, wide, strict=True)).rstrip())
    print(f"\n{len(table)} methods; oracle: the library that each is held equal to, and how nearly; or what is tested")
    return 0


def markdown(table: list[tuple[str, ...]]) -> str:
    """The table as a page; made by the command, never by hand."""
    head = [f"# The {len(table)} methods", "", "Made by `python -m peft_from_scratch methods --markdown`.", ""]
    head += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    body = []
    for *cells, path, lines in table:
        cells = [cell.replace("|", "\\|") for cell in cells]
        cells[4] = f"`{cells[4]}`"
        link = f"[{path}](peft_from_scratch/{path})"
        body.append("| " + " | ".join([*cells, link, lines]) + " |")
    return "\n".join(head + body)
