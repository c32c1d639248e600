"""How the report's figures look: colours, markers, names beside points.

A family has a colour of Okabe and Ito and a marker of its own, since there are more families than colours.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ...plots import GREY
from ..statistics import REFERENCE
from .rows import Row

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
LOOKS = {  # family: colour and marker
    "full": (BLUE, "*"), "selective": (BLUE, "s"), "low rank": (ORANGE, "o"), "adapters": (GREEN, "^"),
    "prompts": (PINK, "D"), "rotation": (AMBER, "v"), "transform": (SKY, "P"), "activations": (GREEN, "X"),
    "beside": (SKY, "h"), "optimiser": (PINK, "p"), "no training": (GREY, "|"),
}  # fmt: skip


def colour_and_marker(method: str, family: str) -> tuple[str, str]:
    return LOOKS.get("full" if method == REFERENCE else family, (GREY, "o"))


def look(row: Row) -> dict:
    """What matplotlib's plot is told for a method's point."""
    colour, marker = colour_and_marker(row.method, row.family)
    return dict(color=colour, marker=marker, markersize=11 if marker == "*" else 7)


def legend(fig: Figure, rows: Sequence[Row]) -> None:
    """The families' colours and markers, above the axes, where they hide nothing."""
    seen = {"full" if row.method == REFERENCE else row.family: look(row) for row in rows}
    marks = [Line2D([], [], ls="", label=family, **seen[family]) for family in LOOKS if family in seen]
    told = dict(frameon=False, labelcolor=GREY, handletextpad=0.1, columnspacing=1)
    fig.legend(handles=marks, loc="outside upper center", ncols=6, fontsize=9, **told)


def log_ticks(axis, values: Sequence[float], write=str) -> None:
    """Ticks at these values of a logarithmic axis, and at no others."""
    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
