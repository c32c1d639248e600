"""How well stated ranges held: where each result fell in its range, and how many ranges held theirs."""

from math import comb

from matplotlib.figure import Figure

from .base import COLOURS, GREY, figure

EDGE = 3  # a result further outside than this is drawn here, as an arrow


def calibration(places: dict[str, list[float]], aim: float = 0.8) -> tuple[Figure, str]:
    """Lesson 07: the predictions of the course against the share of ranges that was to hold (`aim`).

    lesson -> where each result fell: -1 and 1 are the ends of its range, and what lies beyond them is outside.
    """
    every = [place for row in places.values() for place in row]
    rows = {**places, "all": every}
    fig, (left, right) = figure(9, 1.2 + 0.42 * len(rows), 2, sharey=True, width_ratios=[3, 2])
    left.axvspan(-1, 1, color=COLOURS["full"], alpha=0.12, lw=0)
    left.set(xlim=(-EDGE - 0.4, EDGE + 0.4), xticks=[-1, 1], xticklabels=["lower end", "upper end"])
    left.set_xlabel("where the result fell in your range")
    left.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.4, -0.6))
    right.axvline(100 * aim, color=GREY, lw=1, ls=":")
    right.set(xlim=(0, 100), xticks=[0, 50, 100 * aim, 100], xlabel="ranges that held their result, %")
    for y, row in enumerate(places.values()):
        _results(left, y, row)
    for y, row in enumerate(rows.values()):
        _share(right, y, row, aim)
    if not every:
        left.text(0, 0, "no prediction compared yet", ha="center", va="center", color=GREY)
    return fig, _words(places, every, aim)


def _results(ax, y: int, row: list[float]) -> None:
    """A mark a result, the first prediction on top."""
    for i, place in enumerate(row):
        marker = "o" if abs(place) <= 1 else "X" if abs(place) <= EDGE else "<" if place < 0 else ">"
        height = y + (i - (len(row) - 1) / 2) * 0.6 / len(row)
        colour = COLOURS["full"] if marker == "o" else COLOURS["LoRA"]
        ax.plot(min(max(place, -EDGE), EDGE), height, marker, color=colour, ms=6)


def _share(ax, y: int, row: list[float], aim: float) -> None:
    """The share of ranges that held, with its interval; a cross where the aim lies outside of that."""
    held = sum(abs(place) <= 1 for place in row)
    ax.annotate(
        f"{held} of {len(row)}",
        (1, y),
        (6, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=GREY,
        fontsize=9,
    )
    if row:
        low, high = share_interval(held, len(row))
        decided = not low <= aim <= high
        colour = COLOURS["LoRA"] if decided else GREY
        ax.plot([100 * low, 100 * high], [y, y], color=colour, lw=3)
        ax.plot(100 * held / len(row), y, "X" if decided else "D", color=colour, ms=8, clip_on=False)


def share_interval(held: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share: exact, so that few predictions give no verdict by luck."""
    low = 1 - _largest(of - held, of) if held else 0.0
    return low, _largest(held, of) if held < of else 1.0


def _largest(held: int, of: int) -> float:
    """The largest share under which so few as `held` still come in 2.5 % of cases, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        chance = sum(comb(of, i) * share**i * (1 - share) ** (of - i) for i in range(held + 1))
        low, high = (share, high) if chance > 0.025 else (low, share)
    return low


def _words(places: dict[str, list[float]], every: list[float], aim: float) -> str:
    if not every:
        return "No prediction has been compared yet: there is no range to judge."
    held = sum(abs(place) <= 1 for place in every)
    low, high = share_interval(held, len(every))
    verdict = (
        "All of it lies below: your ranges are too narrow"
        if high < aim
        else "All of it lies above: your ranges are wider than they need to be"
        if low > aim
        else "The aim lies inside, so this does not show that your ranges are too narrow or too wide"
    )
    above, below = sum(place > 1 for place in every), sum(place < -1 for place in every)
    by_lesson = ", ".join(f"{name}: {sum(abs(p) <= 1 for p in row)} of {len(row)}" for name, row in places.items())
    return (
        f"Ranges that held their result: {held} of {len(every)}, {100 * held / len(every):.0f} % (95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f} %), where {100 * aim:.0f} % were aimed at. {verdict}. "
        f"Results above their range: {above}, below: {below}. By lesson: {by_lesson}."
    )
