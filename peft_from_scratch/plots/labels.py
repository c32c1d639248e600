"""Names beside points that stand close: moved apart, each with a thin line to its own."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from .base import GREY

LINE = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
APART = 11  # points from one name to the next


def name_points(ax: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write the name of each (x, y, name) left of its point, and make room there. Call it when the scales and the
    limits of the axes are set."""
    low, high = ax.get_ylim()
    unit = 72 * 0.72 * ax.figure.get_figheight() / (high - low)  # points a unit of y; the axes take most of the figure
    points = sorted(points, key=lambda point: -point[1])
    for (x, y, name), place in zip(points, spread([y for _, y, _ in points], APART / unit), strict=True):
        style = {"fontsize": 8, "color": GREY, "ha": "right", "va": "center", "textcoords": "offset points"}
        ax.annotate(name, (x, y), (-14, unit * (place - y)), arrowprops=LINE, **style)
    left, right = ax.get_xlim()
    ax.set_xlim(left=left * (left / right) ** 0.15 if ax.get_xscale() == "log" else left - 0.12 * (right - left))


def spread(places: list[float], gap: float) -> list[float]:
    """Falling heights, moved apart where two would stand nearer than `gap`: such a group keeps its middle."""
    groups: list[list[float]] = []
    for y in places:
        groups.append([y])
        while len(groups) > 1 and _ends(groups[-2], gap)[1] - _ends(groups[-1], gap)[0] < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_ends(group, gap)[0] - i * gap for group in groups for i in range(len(group))]


def _ends(group: list[float], gap: float) -> tuple[float, float]:
    """The highest and lowest place of a group that stands in steps of `gap` around its mean."""
    middle, half = sum(group) / len(group), (len(group) - 1) / 2 * gap
    return middle + half, middle - half
