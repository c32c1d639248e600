"""What the demo and lesson 00 show: how little is trained, and what it costs and gives."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .base import COLOURS, FAINT, GREY, OTHER, figure, percent


def parameter_field(trained: int, total: int, label: str = "LoRA", ax: Axes | None = None) -> tuple[Figure, str]:
    """All numbers of a model as a field of 1,200 dots, the trained ones coloured; into `ax`, or a figure of its own."""
    dots, rows = 1200, 20
    coloured = max(1, round(dots * trained / total))
    fig, (ax,) = figure(7.2, 2.6) if ax is None else (ax.figure, (ax,))
    looks = ((0, coloured, "s", COLOURS.get(label, OTHER)), (coloured, dots, "o", FAINT))
    for first, last, marker, colour in looks:
        places = range(first, last)
        across, down = [i // rows for i in places], [-(i % rows) for i in places]
        ax.scatter(across, down, s=9, c=colour, marker=marker, linewidths=0)
    ax.set_aspect("equal")
    ax.axis("off")
    alt = (
        f"{dots:,} dots stand for the {total:,} numbers of the model, {total / dots:,.0f} each. "
        f"{label} trains {trained:,}, or {trained / total:.3%}: the {coloured} coloured squares at the left edge."
    )
    return fig, alt


def comparison(rows: list[dict]) -> tuple[Figure, str]:
    """Accuracy with interval and seeds on the left; on the right what it cost, relative to full fine-tuning.

    A row has method, accuracy (an Interval), seeds (a list), and trained, flops, memory and file as shares of the
    first row's.
    """
    fig, (left, right) = figure(10.5, 3.8, 2, width_ratios=[1, 1.25])
    names = [row["method"] for row in rows]
    for y, row in enumerate(rows):
        colour, score = COLOURS.get(row["method"], OTHER), row["accuracy"]
        left.plot([score.low, score.high], [y, y], color=colour, lw=3, solid_capstyle="butt")
        left.plot(row["seeds"], [y] * len(row["seeds"]), "o", color=colour, alpha=0.45, ms=5)
        left.plot(score.mean, y, "D", color=colour, ms=8)
        left.annotate(f"{score.mean:.3f}", (score.mean, y), (0, 9), textcoords="offset points", ha="center", color=GREY)
    left.set(yticks=range(len(rows)), yticklabels=names, ylim=(len(rows) - 0.5, -0.6), xlabel="test accuracy")
    _costs(right, rows)
    first, last = rows[0], rows[-1]
    scores = ", ".join(f"{row['method']} {row['accuracy'].mean:.3f}" for row in rows)
    cost = {key: percent(last[key]) for key in ("trained", "flops", "memory", "file")}
    alt = (
        f"Left: test accuracy with 95 % interval, one dot a seed: {scores}. Right: cost relative to {first['method']}. "
        f"{last['method']} trains {cost['trained']} of the numbers, with {cost['flops']} of the compute, "
        f"{cost['memory']} of the memory and {cost['file']} of the file."
    )
    return fig, alt


def _costs(ax, rows: list[dict]) -> None:
    """Grouped bars of four costs; the value stands beside each bar, so that small ones can be read too."""
    kinds = {"trained": "trained numbers", "flops": "compute", "memory": "memory", "file": "file per task"}
    high = 0.8 / len(rows)
    for i, row in enumerate(rows):
        ys = [k + (i - (len(rows) - 1) / 2) * high for k in range(len(kinds))]
        values = [row[kind] for kind in kinds]
        ax.barh(ys, values, high * 0.9, color=COLOURS.get(row["method"], OTHER))
        for y, value in zip(ys, values, strict=True):
            ax.annotate(
                percent(value), (value, y), (4, 0), textcoords="offset points", va="center", fontsize=8, color=GREY
            )
    ax.set(yticks=range(len(kinds)), yticklabels=kinds.values(), xlim=(0, 1.12), ylim=(len(kinds) - 0.5, -0.5))
    ax.set_xlabel(f"relative to {rows[0]['method']}")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
