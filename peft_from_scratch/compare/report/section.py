"""A section of the report, however it will be written."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure

from .read import Table, made_with


@dataclass
class Section:
    """`figures`: name of a file, figure, sentence. `tables`: caption, and lines of cells, the first of which is the
    head. `source`: from which runs all of it comes."""

    title: str
    words: list[str] = field(default_factory=list)
    figures: list[tuple[str, Figure, str]] = field(default_factory=list)
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    source: str = ""


def source(table: Table) -> str:
    codes = made_with([table]).get("code", {})
    return f"{len(table.runs)} runs of {table.setting}; code {', '.join(codes) or 'unknown'}"
