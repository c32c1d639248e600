"""One function a figure; each returns the Figure and its sentence, which is also its alternative text.

Okabe and Ito's colours, which colour-blind readers can tell apart; transparent ground and mid-grey text, for light and
dark pages.
"""

import base64
import html
import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GREY = "#7a7a7a"
FAINT = "#7a7a7a66"
COLOURS = {"full": "#0072B2", "LoRA": "#D55E00", "BitFit": "#009E73", "head only": "#CC79A7"}
OTHER = "#E69F00"
STYLE = {
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "savefig.bbox": "tight",
    "text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "font.size": 11, "svg.hashsalt": "peft_from_scratch",
}  # fmt: skip


def figure(width: float, height: float, columns: int = 1, **kwargs) -> tuple[Figure, list]:
    """An empty figure in the course's style (inches), made without pyplot, so that nothing stays open."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        return fig, list(fig.subplots(1, columns, squeeze=False, **kwargs)[0])


def show(fig: Figure, alt: str) -> None:
    """Show a figure in a notebook with its sentence under it and as its alternative text; elsewhere, the sentence."""
    try:
        from IPython.display import display
    except ImportError:
        print(alt)
        return
    png = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(png, format="png", dpi=110)
    data, words = base64.b64encode(png.getvalue()).decode(), html.escape(alt)
    picture = f'<img alt="{words}" style="max-width:100%" src="data:image/png;base64,{data}">'
    page = f'<figure style="margin:0">{picture}<figcaption>{words}</figcaption></figure>'
    display({"text/html": page, "text/plain": alt}, raw=True)


def parameter_field(trained: int, total: int, label: str = "LoRA", ax: Axes | None = None) -> tuple[Figure, str]:
    """All numbers of a model as a field of 1,200 dots, the trained ones coloured; into `ax`, or a figure of its own."""
    dots, rows = 1200, 20
    coloured = max(1, round(dots * trained / total))
    fig, (ax,) = figure(7.2, 2.6) if ax is None else (ax.figure, (ax,))
    for first, last, colour in ((0, coloured, COLOURS.get(label, OTHER)), (coloured, dots, FAINT)):
        places = range(first, last)
        ax.scatter([i // rows for i in places], [-(i % rows) for i in places], s=9, c=colour, linewidths=0)
    ax.set_aspect("equal")
    ax.axis("off")
    alt = (
        f"{dots:,} dots stand for the {total:,} numbers of the model, {total / dots:,.0f} each. "
        f"{label} trains {trained:,}, or {trained / total:.3%}: the {coloured} coloured dots at the left edge."
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


def percent(share: float) -> str:
    """A share in three figures or fewer: 100 %, 66.8 %, 0.33 %, 0.003 %."""
    digits = 0 if share > 0.995 else 1 if share > 0.05 else 2 if share > 0.0005 else 3
    return f"{100 * share:.{digits}f} %"
