"""The report's figures of one table: each returns the Figure and its sentence, which is also its alternative text."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ...plots import FAINT, GREY, figure, percent
from ...plots.labels import name_points
from ..statistics import REFERENCE
from .looks import BLUE, GREEN, ORANGE, legend, log_ticks, look
from .rows import Row


def seeds_and_intervals(rows: Sequence[Row], name: str) -> tuple[Figure, str]:
    """A line a method: its seeds as faint dots, their mean, and the interval over seeds and test items."""
    rows = [row for row in rows if row.score]
    fig, (ax,) = figure(8, 0.8 + 0.27 * len(rows))
    for y, row in enumerate(rows):
        style = look(row)
        ax.plot([row.score.low, row.score.high], [y, y], color=style["color"], lw=2.5, alpha=0.6)
        ax.plot(row.seeds, [y + 0.27] * len(row.seeds), "o", color=style["color"], alpha=0.6, ms=3, mew=0)
        ax.plot(row.score.mean, y, ls="", **style)
    for row in rows:
        if row.method == REFERENCE:
            ax.axvspan(row.score.low, row.score.high, color=BLUE, alpha=0.12, lw=0)
    ax.set(yticks=range(len(rows)), yticklabels=[row.method for row in rows], ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel(f"{name} on test: mean, seeds, 95 % interval; the band is full fine-tuning's")
    ax.grid(axis="x", color=FAINT, lw=0.5)
    legend(fig, rows)
    trained = [row for row in rows if row.trained]
    first, last = trained[0], trained[-1]
    return fig, (
        f"{name.capitalize()} on the test set of {len(trained)} methods, a dot a seed, with 95 % intervals over seeds "
        f"and test items. Best is {first.method} with {first.score.mean:.3f}, last {last.method} with "
        f"{last.score.mean:.3f}{of_reference(rows)}."
    )


def of_reference(rows: Sequence[Row]) -> str:
    found = [row.score.mean for row in rows if row.method == REFERENCE and row.score]
    return f"; full fine-tuning has {found[0]:.3f}" if found else ""


COSTS = {  # key of a cost line: what it is
    "numbers": "numbers trained",
    "flops": "FLOPs of a step",
    "memory": "bytes of a step",
}


def against_costs(rows: Sequence[Row], name: str, up: bool) -> tuple[Figure, str]:
    """Score against what is trained, computed and stored, as shares of full; the best at each price are named."""
    whole, rows = reference_costs(rows), [row for row in rows if row.trained and row.share is not None]
    fig, axes = figure(11, 4.4, 3, sharey=True)
    named = {}
    for ax, (key, words) in zip(axes, COSTS.items(), strict=True):
        price = {row.method: row.costs[key] / whole[key] for row in rows}
        for row in rows:
            ax.plot(price[row.method], row.score.mean, ls="", **look(row))
        front = named[key] = frontier(rows, price, up)
        ax.step([price[r.method] for r in front], [r.score.mean for r in front], where="post", color=FAINT, lw=1)
        if key == "numbers":
            ax.set_xscale("log")
            log_ticks(ax.xaxis, [1e-4, 1e-2, 1])
        ax.set_xlabel(f"{words}, relative to full")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        ax.margins(x=0.2, y=0.1)
        ax.grid(color=FAINT, lw=0.5)
        name_points(ax, [(price[r.method], r.score.mean, r.method) for r in front])
    axes[0].set_ylabel(name)
    legend(fig, rows)
    words = "; ".join(f"by {COSTS[key]}: {', '.join(r.method for r in front)}" for key, front in named.items())
    direction = "higher" if up else "lower"
    return fig, (
        f"{name.capitalize()} ({direction} is better) against three costs of a training step, relative to full "
        f"fine-tuning. No cheaper method is as good as these: {words}."
    )


def reference_costs(rows: Sequence[Row]) -> dict:
    """Full fine-tuning's costs; where it has none, the largest of each."""
    costs = [row.costs for row in rows if row.share is not None]
    found = [row.costs for row in rows if row.method == REFERENCE and row.share is not None]
    return found[0] if found else {key: max(c[key] for c in costs) for key in (*COSTS, "static", "saved")}


def frontier(rows: Sequence[Row], price: dict[str, float], up: bool) -> list[Row]:
    """The rows that no cheaper row equals, from the cheapest on."""
    best, sign = [], 1 if up else -1
    for row in sorted(rows, key=lambda r: (price[r.method], -sign * r.score.mean)):
        if not best or sign * row.score.mean > sign * best[-1].score.mean:
            best.append(row)
    return best


TIMES = {"flops": ("FLOPs", "s", ORANGE), "time": ("time", "o", BLUE), "memory": ("bytes", "^", GREEN)}


def time_and_memory(rows: Sequence[Row]) -> tuple[Figure, str]:
    """A line a method: what a step computes, takes and holds, relative to full fine-tuning; quartiles of the time."""
    rows = sorted((r for r in rows if r.trained and r.share is not None), key=lambda r: r.costs["flops"])
    whole = reference_costs(rows)
    relative = {r.method: {k: r.costs[k] / whole[k] for k in ("flops", "memory")} for r in rows}
    relative = {r.method: relative[r.method] | ({"time": r.time.mean} if r.time else {}) for r in rows}
    fig, (ax,) = figure(8, 0.9 + 0.24 * len(rows))
    for y, row in enumerate(rows):
        ax.plot([min(relative[row.method].values()), max(relative[row.method].values())], [y, y], color=FAINT, lw=1)
        if row.time:
            ax.plot([row.time.low, row.time.high], [y, y], color=BLUE, lw=3, alpha=0.6)
    for key, (words, marker, colour) in TIMES.items():
        there = {y: relative[r.method][key] for y, r in enumerate(rows) if key in relative[r.method]}
        if there:
            ax.plot(there.values(), there.keys(), marker, color=colour, ms=6, alpha=0.85, label=words)
    ax.axvline(2 / 3, color=GREY, lw=0.8, ls=":")
    ax.annotate("2/3", (2 / 3, -0.9), (3, 0), textcoords="offset points", fontsize=8, color=GREY)
    ax.set(yticks=range(len(rows)), yticklabels=[row.method for row in rows], ylim=(len(rows) - 0.4, -1.2))
    ax.set_xlabel("of a training step, relative to full fine-tuning")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    ax.set_xlim(left=0)
    fig.legend(fontsize=9, frameon=False, labelcolor=GREY, loc="outside upper center", ncols=3)
    return fig, time_sentence(relative)


def time_sentence(relative: dict[str, dict[str, float]]) -> str:
    told = (
        "For each method, what a training step computes (FLOPs), takes (time, measured by turns with full fine-tuning; "
        "the bar is its quartiles) and holds (bytes), relative to full fine-tuning. The dotted line is 2/3 of the "
        "FLOPs, below which a small change spread over the whole depth cannot come."
    )
    if "LoRA" not in relative:
        return told
    found = {key: percent(value) for key, value in relative["LoRA"].items()}
    timed = f"{found['time']} of the time, " if "time" in found else ""
    return f"{told} LoRA: {found['flops']} of the FLOPs, {timed}{found['memory']} of the bytes."
