"""Lesson 02: what trains, what is saved, and what is left after loading it again."""

import matplotlib
from matplotlib.figure import Figure

from .base import COLOURS, GREY, OTHER, figure


def parameter_lists(sides: dict[str, list[tuple[str, bool, bool]]]) -> tuple[Figure, str]:
    """Parameters in columns, one list a column: (name, does it train, is it saved). Filled: trains; framed: saved."""
    longest = max(map(len, sides.values()))
    fig, axes = figure(10, 0.26 * longest + 0.7, len(sides))
    said = []
    for ax, (title, rows) in zip(axes, sides.items(), strict=True):
        for y, (name, trains, saved) in enumerate(rows):
            colour = COLOURS["LoRA"] if trains else GREY
            ax.plot(0, y, "o", ms=7, mec=colour, mfc=colour if trains else "none")
            if saved:
                ax.plot(0, y, "s", ms=12, mec=COLOURS["full"], mfc="none", mew=1.5)
            style = {"family": "monospace", "fontsize": 9, "weight": "bold" if trains else "normal", "color": GREY}
            ax.text(0.5, y, name, va="center", **style)
        ax.set(xlim=(-0.5, 10), ylim=(longest - 0.4, -0.8))
        ax.set_title(title, loc="left")
        ax.axis("off")
        train, keep = sum(row[1] for row in rows), sum(row[2] for row in rows)
        both = "they are the same" if all(row[1] == row[2] for row in rows) else "they are not the same"
        said.append(f"{title}: {len(rows)} tensors, {train} train (filled), {keep} are saved (framed); {both}")
    return fig, "; ".join(said) + "."


def reloads(runs: dict[str, dict]) -> tuple[Figure, str]:
    """Runs that were trained, saved and loaded again: training loss on the left, accuracy then and now on the right.

    {name: run}; a run has loss (a list, one a step), accuracy and reloaded (of test, per cent), and perhaps heads: what
    several random heads gave, of which `reloaded` is the mean.
    """
    fig, (left, right) = figure(10.5, 3.4, 2, width_ratios=[1, 1.2])
    said = []
    colours = [*COLOURS.values(), OTHER]
    for y, ((name, run), dash) in enumerate(zip(runs.items(), ("-", "--", ":", "-."), strict=False)):
        smooth = [sum(run["loss"][max(0, i - 9) : i + 1]) / min(i + 1, 10) for i in range(len(run["loss"]))]
        left.plot(range(1, len(smooth) + 1), smooth, dash, color=colours[y], lw=2)
        right.plot([run["accuracy"], run["reloaded"]], [y, y], dash, color=colours[y], lw=2)
        right.plot(run["accuracy"], y, "o", color=colours[y], ms=9)
        right.plot(run["reloaded"], y, "o", mec=colours[y], mfc="none", ms=9, mew=2)
        right.plot(run.get("heads", []), [y] * len(run.get("heads", [])), "|", color=colours[y], ms=12)
        said.append(f"{name}: {run['accuracy']:.1f} % when trained, {run['reloaded']:.1f} % when loaded again")
        if "heads" in run:
            said[-1] += f" (mean of heads from {min(run['heads']):.1f} to {max(run['heads']):.1f} %)"
    left.set(xlabel="step", title="training loss, mean of 10 steps")
    right.set(yticks=range(len(runs)), yticklabels=list(runs), ylim=(len(runs) - 0.5, -0.5))
    right.set(title="test accuracy in %: ● trained  ○ loaded again  | one head")
    right.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    return fig, "Test accuracy. " + "; ".join(said) + ". Line styles on the left are those on the right."
