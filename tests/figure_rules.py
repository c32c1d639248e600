"""What every figure keeps to: words that can be read on white and on black, colours that the colour-blind can tell
apart, and a second cue wherever colour tells things apart.

`watch(path)`, first thing in a notebook, writes what the notebook's figures break to a file, a line each.
"""

import itertools
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
CIVIDIS = {to_hex(colour) for colour in matplotlib.colormaps["cividis"](range(256))}
PAGES = ("#ffffff", "#111111")  # JupyterLab's light and dark ground
LEAST = 3  # WCAG 2.2's contrast for large text and graphics; the figures' grey has 4.3 on both


def luminance(colour) -> float:
    """WCAG's relative luminance of an opaque colour, 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def violations(fig: Figure) -> list[str]:
    """Every breach in one sentence; empty where the figure keeps the rules."""
    found = [] if fig.get_facecolor()[3] == 0 else ["the ground of the figure is not transparent"]
    for ax in fig.axes:
        found += [] if ax.get_facecolor()[3] == 0 else ["the ground of the axes is not transparent"]
        found += _words(ax) + _colours(ax) + _cues(ax)
    return found


def _words(ax) -> list[str]:
    """Text on the figure's ground is readable on both pages; text in a box or on a coloured field, on that."""
    texts = [text for text in ax.findobj(Text) if text.get_visible() and text.get_text().strip()]
    on_field = bool(ax.images or [c for c in ax.collections if c.get_array() is not None])
    hard = [t for t in texts if not on_field and min(contrast(t.get_color(), page) for page in PAGES) < LEAST]
    return [f"{text.get_text()!r} in {to_hex(text.get_color())} cannot be read on both pages" for text in hard]


def _colours(ax) -> list[str]:
    used = {to_hex(colour) for colour, _ in _marks(ax)}
    grey = {colour for colour in used if len({colour[1:3], colour[3:5], colour[5:7]}) == 1}
    strange = sorted(used - OKABE_ITO - CIVIDIS - grey)
    return [f"{colour} is neither Okabe and Ito's nor of cividis" for colour in strange]


def _cues(ax) -> list[str]:
    """Two colours never differ in colour alone: dash, marker, width, hatch, or their place on an axis of names."""
    looks = defaultdict(set)
    for colour, cue in _marks(ax):
        looks[to_hex(colour)].add(cue)
    pairs = itertools.combinations(sorted(looks.items()), 2)
    return [f"{a} and {b} differ in colour alone ({x})" for (a, x), (b, y) in pairs if x == y]


def _marks(ax) -> list[tuple]:
    """(colour, what else sets it apart) of all that is drawn in the axes with data."""
    found = []
    named = {"x": _named(ax.get_xticklabels()), "y": _named(ax.get_yticklabels())}
    rows = {text.get_position()[1] for text in ax.texts}
    for line in ax.lines:
        alone = str(line.get_linestyle()) == "None"  # markers without a line
        colour = line.get_markeredgecolor() if alone else line.get_color()
        found.append((colour, _line_cue(line, named["y"], rows)))
    for patch in ax.patches:
        if patch is not ax.patch and to_rgba(patch.get_facecolor())[3] > 0.2:
            found.append((patch.get_facecolor(), _patch_cue(patch, named)))
    for dots in ax.collections:
        if isinstance(dots, PathCollection) and dots.get_array() is None:
            shape = tuple(len(path.vertices) for path in dots.get_paths())
            found += [(colour, ("dots", shape)) for colour in dots.get_facecolor()]
    return found


def _named(labels) -> bool:
    """Whether an axis names things; then a place on it says which thing is meant."""
    words = [label.get_text() for label in labels if label.get_text().strip()]
    return bool(words) and not all(word[0] in "0123456789−-+.$" for word in words)


def _line_cue(line: Line2D, named: bool, rows: set[float]) -> tuple:
    """Its dash, marker and width; where the axis or a text names its height, that too."""
    heights = set(map(float, line.get_ydata()))
    place = heights.pop() if len(heights) == 1 and (named or heights & rows) else None
    return "line", str(line.get_linestyle()), str(line.get_marker()), line.get_linewidth(), place


def _patch_cue(patch: Patch, named: dict[str, bool]) -> tuple:
    x, y = patch.get_window_extent().bounds[:2]
    return "patch", patch.get_hatch(), round(y, 1) if named["y"] else None, round(x, 1) if named["x"] else None


def watch(path: str) -> None:
    """From now on, every figure that is drawn adds what it breaks to the file."""
    Path(path).write_text("")
    draw = FigureCanvasBase.print_figure

    def print_figure(canvas, *args, **kwargs):
        out = draw(canvas, *args, **kwargs)  # first, for the labels of ticks exist only when drawn
        with open(path, "a") as file:
            file.writelines(f"{each}\n" for each in ["drawn", *violations(canvas.figure)])
        return out

    FigureCanvasBase.print_figure = print_figure
