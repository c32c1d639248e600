"""Lesson 07: differences with their intervals, fronts and curves."""

from matplotlib.figure import Figure

from .base import COLOURS, GREY, OTHER, figure
from .labels import name_points, spread

VERDICTS = {"yes": (COLOURS["full"], "o"), "no": (COLOURS["LoRA"], "X"), "not decided": (GREY, "D")}


def two_exams(first: dict[str, float], again: dict[str, float]) -> tuple[Figure, str]:
    """Lesson 07: each row's accuracy (per cent) in the first exam, and in another one; a line a row."""
    fig, (ax,) = figure(7, 4.6)
    order, later = (sorted(scores, key=scores.get, reverse=True) for scores in (first, again))
    for name in order:
        best = name == order[0]
        style = {"color": COLOURS["LoRA"] if best else GREY, "lw": 2.5 if best else 1, "ls": "-" if best else "--"}
        ax.plot([0, 1], [first[name], again[name]], marker="o", ms=5, **style)
    for x, side, names in ((0, "right", order), (1, "left", later)):
        scores = first if x == 0 else again
        places = spread([scores[name] for name in names], (max(scores.values()) - min(scores.values())) / 18)
        for name, y in zip(names, places, strict=True):
            beside = x + (x - 0.5) * 0.14  # a thin line leads from the label to its dot
            ax.plot([x + (x - 0.5) * 0.03, beside], [scores[name], y], color=GREY, lw=0.5)
            text = f"{name} {scores[name]:.1f}"
            ax.text(beside + (x - 0.5) * 0.02, y, text, ha=side, va="center", fontsize=9, color=GREY)
    ax.set(xlim=(-0.4, 1.4), xticks=[0, 1], xticklabels=["first reviews", "other reviews"], yticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)
    told = ", ".join(f"{name} {first[name]:.1f} then {again[name]:.1f}" for name in order)
    alt = f"Accuracy in per cent on the first and on other test reviews: {told}. "
    return fig, alt + f"{order[0]} was first, and stands at place {later.index(order[0]) + 1} the second time."


def against_full(rows: list[dict], margin: float) -> tuple[Figure, str]:
    """Lesson 07: each method minus full fine-tuning in points, with interval, verdict and the band of the margin.

    A row has name, difference (mean, low, high in points), verdict (yes, no, not decided) and rate: by how many points
    half a decade less of learning rate was worse on dev; the arrow.
    """
    rows = sorted(rows, key=lambda row: -row["difference"][0])
    fig, (ax,) = figure(9, 0.9 + 0.34 * len(rows))
    ax.axvspan(-margin, margin, color=COLOURS["full"], alpha=0.12, lw=0)
    ax.axvline(0, color=GREY, lw=0.8)
    for y, row in enumerate(rows):
        (mean, low, high), (colour, marker) = row["difference"], VERDICTS[row["verdict"]]
        arrow = {"arrowstyle": "->", "color": OTHER, "lw": 1.5, "ls": "--"}
        ax.annotate("", (mean, y + 0.3), (mean - row["rate"], y + 0.3), arrowprops=arrow)
        ax.plot([low, high], [y, y], color=colour, lw=3)
        ax.plot(mean, y, marker, color=colour, ms=8)
    lowest = min(min(row["difference"][1], row["difference"][0] - row["rate"]) for row in rows)
    ax.set(yticks=range(len(rows)), yticklabels=[row["name"] for row in rows], ylim=(len(rows) - 0.4, -0.8))
    ax.set_xlim(lowest - 1, max(max(row["difference"][2] for row in rows), margin) + 0.7)
    ax.set_xlabel("points of accuracy, minus full fine-tuning   (--> half a decade of learning rate)")
    for word, (colour, marker) in VERDICTS.items():
        ax.plot([], [], marker, color=colour, label=word)
    ax.legend(frameon=False, labelcolor=GREY, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)
    told = "; ".join(
        f"{row['name']} {row['difference'][0]:+.1f} ({row['difference'][1]:+.1f} to {row['difference'][2]:+.1f}), "
        f"{row['verdict']}, the rate is worth {row['rate']:.1f}"
        for row in rows
    )
    return fig, f"Points minus full fine-tuning, with the band of ± {margin:g}: {told}."


def resolution(mean: float, half: float, margin: float, seeds: int, items: int) -> tuple[Figure, str]:
    """Lesson 07: an interval in points against the band of a margin, and what it decides."""
    low, high = mean - half, mean + half
    inside, outside = -margin < low and high < margin, low > margin or high < -margin
    verdict = "yes" if inside else "no" if outside else "not decided"
    colour, marker = VERDICTS[verdict]
    fig, (ax,) = figure(7.5, 1.5)
    ax.axvspan(-margin, margin, color=COLOURS["full"], alpha=0.15, lw=0)
    ax.axvline(0, color=GREY, lw=0.8)
    ax.plot([low, high], [0, 0], color=colour, lw=4)
    ax.plot(mean, 0, marker, color=colour, ms=11)
    ax.set(xlim=(-7, 5), ylim=(-1, 1), yticks=[], xlabel="points, minus full fine-tuning")
    ax.spines["left"].set_visible(False)
    return fig, (
        f"{seeds} seeds, {items:,} test items: {mean:+.1f} ± {half:.1f} points. "
        f"Equivalent within ± {margin:g} point? {verdict.capitalize()}."
    )


def front(rows: list[dict], kept: dict[str, list[str]]) -> tuple[Figure, str]:
    """Lesson 07: accuracy against several costs (of full = 1); who is beaten by nobody is named and joined.

    A row has name, quality and one entry for each name in `kept`: cost -> the names on the front.
    """
    fig, axes = figure(11, 3.8, len(kept), sharey=True)
    for ax, (cost, names) in zip(axes, kept.items(), strict=True):
        on = sorted((row for row in rows if row["name"] in names), key=lambda row: row[cost])
        off = [row for row in rows if row["name"] not in names]
        ax.plot([row[cost] for row in off], [row["quality"] for row in off], "x", color=GREY, ms=6)
        ax.step([row[cost] for row in on], [row["quality"] for row in on], "o-", where="post", color=COLOURS["full"])
        ax.set(xscale="log", xlabel=f"{cost.replace('flops', 'FLOPs')}, of full fine-tuning")
        ax.margins(x=0.3, y=0.12)
        name_points(ax, [(row[cost], row["quality"], row["name"]) for row in on])
        low, high = ax.get_xlim()
        wide = high > 30 * low  # decades are enough, and more would not fit
        ticks = [t for t in ((1e-4, 1e-2, 1) if wide else (0.1, 0.2, 0.5, 1)) if low <= t <= high]
        ax.set_xticks(ticks, [f"{100 * t:g} %" for t in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel("test accuracy, %")
    told = "; ".join(f"by {cost}: {', '.join(names)}" for cost, names in kept.items())
    return fig, f"Accuracy against cost; a line joins who is beaten by nobody. {told}."


def quality_and_forgetting(curves: dict[str, list[tuple]], score: float) -> tuple[Figure, str]:
    """Lesson 07: loss on other texts against loss on the task, a curve a method, from no training to its best rate."""
    fig, (ax,) = figure(7.5, 3.8)
    said = []
    for (name, points), style in zip(curves.items(), ("o-", "D--", "^:"), strict=False):
        ax.plot([x for x, _ in points], [y for _, y in points], style, color=COLOURS.get(name, OTHER), label=name)
        said.append(f"{name} " + ", ".join(f"{x:.2f} and {y:.2f}" for x, y in points))
    ax.axvline(score, color=GREY, lw=1, ls=":")
    ax.invert_xaxis()
    ax.set(xlabel="loss on the task (better to the right)", ylabel="loss on other texts")
    ax.legend(frameon=False, labelcolor=GREY)
    alt = f"Loss on the task and on other texts, from no training on: {'; '.join(said)}. "
    return fig, alt + f"The dotted line is the best loss that all reach, {score:.2f}."
