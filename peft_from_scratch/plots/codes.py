"""Lesson 06: the same weights on several rulers, and what a block of them costs."""

from matplotlib.figure import Figure

from .base import COLOURS, FAINT, GREY, figure, percent


def rulers(weights: list[float], codes: dict[str, list[float]]) -> tuple[Figure, str]:
    """Lesson 06: the same weights, between -1 and 1, on rulers with at most 16 marks; what a weight of 0 becomes.

    `codes` has the marks by name. A line leads from each weight to the mark it is rounded to.
    """
    fig, axes = figure(10, 1.5 * len(codes) + 0.4, 1)
    ax, said = axes[0], []
    for row, (name, marks) in enumerate(codes.items()):
        y, colour = -1.6 * row, list(COLOURS.values())[row % 4]
        landed = [min(marks, key=lambda m, w=w: abs(m - w)) for w in weights]
        zero = min(marks, key=abs)
        ax.plot([-1, 1], [y, y], color=FAINT, lw=1)
        for w, m in zip(weights, landed, strict=True):
            ax.plot([w, m], [y + 0.62, y + 0.12], color=FAINT, lw=0.8)
        ax.plot(weights, [y + 0.62] * len(weights), "o", color=GREY, ms=3)
        ax.plot(marks, [y] * len(marks), "|", color=colour, ms=18, mew=2)
        ax.plot(zero, y - 0.3, "^", color=colour, ms=9)
        ax.text(-1.06, y, f"{name}\n0 becomes {zero:.3f}", ha="right", va="center", color=GREY)
        error = sum((w - m) ** 2 for w, m in zip(weights, landed, strict=True)) / sum(w * w for w in weights)
        said.append(f"{name}: 0 becomes {zero:.3f}, relative error {percent(error**0.5)}")
    ax.plot([0, 0], [-1.6 * len(codes) + 0.9, 0.8], ":", color=GREY, lw=1.2)
    ax.set(xlim=(-1.5, 1.1), ylim=(-1.6 * len(codes) + 0.9, 0.9))
    ax.axis("off")
    alt = f"The same {len(weights)} weights (dots) on {len(codes)} rulers; the dotted line is zero. "
    return fig, alt + "; ".join(said) + "."


def block_size(curve: dict[int, dict[str, float]], block: int) -> tuple[Figure, str]:
    """Lesson 06: what a block of `block` weights costs in bits a weight, and what it loses.

    `curve` has for each block: plain and double (bits a weight, constants included) and error (relative, 0 to 1).
    """
    fig, (left, right) = figure(9.5, 3.2, 2, width_ratios=[2, 1])
    for kind, style, colour in (("plain", "o--", COLOURS["full"]), ("double", "D-", COLOURS["LoRA"])):
        label = "scales in 32 bits" if kind == "plain" else "scales quantised too"
        left.plot([c[kind] for c in curve.values()], [100 * c["error"] for c in curve.values()], style, color=colour,
                  label=label)  # fmt: skip
        left.plot(curve[block][kind], 100 * curve[block]["error"], "o", mfc="none", mec=colour, ms=15, mew=2)
    top = 115 * max(c["error"] for c in curve.values())  # room for the ring around the highest mark
    left.set(xlabel="bits a weight", ylabel="relative error, %", ylim=(0, top))
    left.legend(frameon=False, labelcolor=GREY)
    constants = {"32-bit\nscales": curve[block]["plain"] - 4, "quantised\ntoo": curve[block]["double"] - 4}
    right.bar(constants.keys(), [4, 4], color=FAINT)
    right.bar(constants.keys(), constants.values(), bottom=4, color=[COLOURS["full"], COLOURS["LoRA"]], hatch="//")
    for x, value in enumerate(constants.values()):
        right.annotate(f"{4 + value:.3f}", (x, 4 + value), (0, 3), textcoords="offset points", ha="center", color=GREY)
    right.set(ylabel="bits a weight", ylim=(0, 7), title=f"block {block}")
    chosen = curve[block]
    return fig, (
        f"Blocks of {block}: {chosen['plain']:.3f} bits a weight with 32-bit scales (hatched), {chosen['double']:.3f} "
        f"with scales that are quantised too; relative error {percent(chosen['error'])}. A smaller block costs bits "
        "and loses less."
    )
