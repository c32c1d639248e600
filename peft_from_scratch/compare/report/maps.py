"""The report's figures across rates, ranks, numbers of examples and corpora; see figures.py for what they return."""

from collections.abc import Mapping, Sequence
from math import isfinite, log10

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ...plots import FAINT, GREY, figure
from ..rates import best_rate
from ..runs import Run
from .looks import BLUE, ORANGE, colour_and_marker, log_ticks
from .rows import Row

Search = Mapping[str, Mapping[float, Run]]  # row -> rate -> its run on dev


def rate_map(search: Search, rows: str = "method") -> tuple[Figure, str]:
    """Log-loss on dev by row and learning rate, as colours; a ring at the best of each row, a cross where it failed."""
    names, rates = list(search), sorted({lr for tried in search.values() for lr in tried})
    grid = np.full((len(names), len(rates)), np.nan)
    for i, name in enumerate(names):
        for lr, run in search[name].items():
            grid[i, rates.index(lr)] = run.metrics.get("log_loss", np.nan)
    known = grid[np.isfinite(grid)]
    fig, (ax,) = figure(2.6 + 0.62 * len(rates), 1.3 + 0.27 * len(names))
    high = np.quantile(known, 0.9) if known.size else 1  # runs that nearly diverged do not flatten the rest
    picture = ax.pcolormesh(grid, cmap="cividis_r", vmin=known.min(initial=high), vmax=high)
    for i, name in enumerate(names):
        mark_cells(ax, i, search[name], rates, picture)
    ax.set(xticks=np.arange(len(rates)) + 0.5, xticklabels=[short(lr) for lr in rates], xlabel="learning rate")
    ax.set(yticks=np.arange(len(names)) + 0.5, yticklabels=names, ylim=(len(names), 0))
    for spine in ax.spines.values():
        spine.set_visible(False)
    best = {name: best_rate(dict(tried)) for name, tried in search.items()}
    low, top = min(best, key=best.get), max(best, key=best.get)
    return fig, (
        f"Log-loss on dev by {rows} and learning rate; brighter is better, a ring marks the best of a row, a cross a "
        f"run that failed. The best rates reach from {short(best[low])} ({low}) to {short(best[top])} ({top})."
    )


def mark_cells(ax, i: int, tried: Mapping[float, Run], rates: Sequence[float], picture) -> None:
    best = best_rate(dict(tried))
    for lr, run in tried.items():
        at, loss = (rates.index(lr) + 0.5, i + 0.5), run.metrics.get("log_loss", np.nan)
        if not isfinite(loss):
            ax.plot(*at, "x", color=GREY, ms=6)
            continue
        red, green, blue, _ = colormaps["cividis_r"](picture.norm(loss))
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        ax.annotate(f"{loss:.2f}", at, ha="center", va="center", fontsize=7, color=ink)
        if lr == best:
            ax.plot(*at, "o", mfc="none", mec=ORANGE, ms=17, mew=1.8)


def short(lr: float) -> str:
    """1e-4, 3e-4, 1e-3: half decades."""
    exponent = int(np.floor(log10(lr) + 1e-6))
    return f"{lr / 10**exponent:.0f}e{exponent}"


def forgetting(search: Search, before: float | None, families: Mapping[str, str]) -> tuple[Figure, str]:
    """One curve a method over its rates: the loss on the target, and what the loss on another corpus rose by."""
    fig, (ax,) = figure(8, 5)
    start, ends = before or 0.0, {}
    for name, tried in search.items():
        done = [tried[lr] for lr in sorted(tried) if tried[lr].done]
        points = [(run.metrics["log_loss"], run.metrics["other_loss"] - start) for run in done]
        if not points:
            continue
        colour, marker = colour_and_marker(name, families[name])
        best = points.index(min(points))
        ax.plot(*zip(*points, strict=True), ":", marker=marker, color=colour, ms=6, lw=1, alpha=0.8, label=name)
        ax.plot(*zip(*points[: best + 1], strict=True), "-", color=colour, lw=1.5)  # beyond it both losses grow
        x, y = ends[name] = points[best]
        ax.annotate(name, (x, y), (6, 5), textcoords="offset points", fontsize=8, color=GREY)
    ax.axhline(0 if before is not None else start, color=GREY, lw=0.8, ls=":")
    ax.set_xlabel("log-loss on dev of the task (left is better)")
    ax.set_ylabel("rise of the loss on the other corpus" if before is not None else "loss on the other corpus")
    crop(ax, [p for p in ends.values()])
    words = ", ".join(f"{name} {y:+.3f}" for name, (_, y) in sorted(ends.items(), key=lambda item: item[1][1]))
    return fig, (
        "What is forgotten against what is learned, a curve a method over its learning rates, dotted beyond the best "
        "one: compare methods at the same place of the horizontal axis, not at their defaults. At its lowest loss on "
        f"the task, the other corpus's loss had changed by: {words}."
    )


def crop(ax, best: Sequence[tuple[float, float]]) -> None:
    """Leave out what the highest rates destroyed: it would press the rest into a corner."""
    xs, ys = zip(*best, strict=True)
    wide, high = max(xs) - min(xs) or 0.1, max(max(ys) - min(min(ys), 0), 0.05)
    ax.set_xlim(min(xs) - 0.15 * wide, max(xs) + 1.0 * wide)
    ax.set_ylim(min(min(ys), 0) - 0.3 * high, max(ys) + 1.0 * high)


def data_efficiency(by_size: Mapping[int, Sequence[Row]], name: str) -> tuple[Figure, str]:
    """Score against the number of training examples, a line a method, intervals as bars."""
    sizes = sorted(by_size)
    methods = {row.method: row.family for n in sizes for row in by_size[n] if row.trained}
    fig, (ax,) = figure(8, 4.4)
    reached = {}
    for i, (method, family) in enumerate(methods.items()):
        found = {n: row.score for n in sizes for row in by_size[n] if row.method == method}
        colour, marker = colour_and_marker(method, family)
        xs, ys = [n * 1.04 ** (i - len(methods) / 2) for n in found], [s.mean for s in found.values()]
        spread = [[s.mean - s.low for s in found.values()], [s.high - s.mean for s in found.values()]]
        dashes = ("-", "--", ":", "-.")[i % 4]
        ax.errorbar(xs, ys, spread, ls=dashes, color=colour, marker=marker, ms=7, lw=1.3, elinewidth=1, label=method)
        reached[method] = f"{method} {ys[0]:.3f} to {ys[-1]:.3f}"
    ax.set_xscale("log")
    log_ticks(ax.xaxis, sizes, lambda n: f"{n:,.0f}")
    ax.set(xlabel="training examples", ylabel=name)
    ax.grid(axis="y", color=FAINT, lw=0.5)
    fig.legend(fontsize=9, frameon=False, labelcolor=GREY, loc="outside right center")
    return fig, (
        f"{name.capitalize()} on test from {sizes[0]:,} to {sizes[-1]:,} training examples, with 95 % intervals: "
        f"{'; '.join(reached.values())}."
    )


def beside_peft(found: Mapping[str, Mapping[str, float]], what: str) -> tuple[Figure, str]:
    """Ratios of ours to peft's, a line a method, with their intervals where there are any."""
    names = sorted(found, key=lambda name: found[name]["median"])
    fig, (ax,) = figure(7, 0.8 + 0.2 * len(names))
    for y, name in enumerate(names):
        line = found[name]
        ax.plot([line.get("low", line["median"]), line.get("high", line["median"])], [y, y], color=BLUE, lw=2)
        ax.plot(line["median"], y, "D", color=BLUE, ms=5)
    ax.axvline(1, color=GREY, lw=0.8, ls=":")
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel(f"{what}, ours / peft's; left of 1 ours is less")
    middle = float(np.median([found[name]["median"] for name in names]))
    return fig, (
        f"{what.capitalize()} of {len(names)} methods, ours over Hugging Face peft's: median {middle:.2f}, from "
        f"{found[names[0]]['median']:.2f} ({names[0]}) to {found[names[-1]]['median']:.2f} ({names[-1]})."
    )
