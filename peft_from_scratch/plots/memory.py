"""Lesson 01: the five parts of a step's memory, and what is forgotten."""

from matplotlib.figure import Figure

from .base import COLOURS, FAINT, GREY, OTHER, figure

PARTS = {"weights": GREY, "gradients": COLOURS["BitFit"], "optimizer": COLOURS["full"], "activations": OTHER,
         "temporary": COLOURS["head only"]}  # fmt: skip
HATCHES = ("", "//", "xx", "..", "\\\\")


def step_memory(costs: dict[str, dict[str, float]]) -> tuple[Figure, str]:
    """Lesson 01: the five parts of a step's memory, one bar a method; a line marks the most that is alive at once.

    `costs`: for each method the bytes of weights, gradients, optimizer, activations, temporary and peak. Of what is
    temporary only what exceeds the gradients is drawn, for at the fullest moment it holds those made so far.
    """
    unit, name = (2**30, "GiB") if max(cost["peak"] for cost in costs.values()) > 10 * 2**30 else (2**20, "MiB")
    fig, (ax,) = figure(9, 0.55 * len(costs) + 1.5)
    said, longest = [], 0.0
    for y, (method, cost) in enumerate(costs.items()):
        parts = {**cost, "temporary": max(0, cost["temporary"] - cost["gradients"])}
        left = 0.0
        for (part, colour), hatch in zip(PARTS.items(), HATCHES, strict=True):
            width = parts[part] / unit
            style = {"color": colour, "hatch": hatch, "edgecolor": "white", "lw": 0}
            ax.barh(y, width, 0.62, left=left, label=part if y == 0 else None, **style)
            left += width
        longest = max(longest, left)
        ax.plot([cost["peak"] / unit] * 2, [y - 0.42, y + 0.42], color=GREY, lw=2.5)
        listed = ", ".join(f"{part} {parts[part] / unit:,.1f}" for part in PARTS)
        said.append(f"{method}: {listed}; at most {cost['peak'] / unit:,.1f} at once")
    ax.set(yticks=range(len(costs)), yticklabels=list(costs), ylim=(len(costs) - 0.4, -0.6), xlabel=name)
    ax.set_xlim(0, 1.04 * longest)
    ax.legend(frameon=False, labelcolor=GREY, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)
    return fig, f"Memory of a training step in {name}. " + ". ".join(said) + "."


def forgetting(runs: dict[str, dict]) -> tuple[Figure, str]:
    """Lesson 01: how the loss on the task and on other texts moved, for each learning rate; 95 % over blocks of text.

    `runs`: {label: {"speeches": {"change": (mean, low, high)}, "films": the same}}, from the lowest rate up.
    """
    fig, (ax,) = figure(7.5, 3.4)
    kinds = {"speeches": ("what was trained on", COLOURS["full"], "o-"), "films": ("other", COLOURS["LoRA"], "D--")}
    said = []
    for kind, (label, colour, style) in kinds.items():
        spans = [run[kind]["change"] for run in runs.values()]
        means = [mean for mean, _, _ in spans]
        ax.plot(range(len(runs)), means, style, color=colour, label=f"{kind} ({label})")
        ax.vlines(range(len(runs)), [low for _, low, _ in spans], [high for *_, high in spans], color=colour, lw=3)
        said.append(f"{kind} " + ", ".join(f"{mean:+.2f}" for mean in means))
    ax.axhline(0, color=FAINT, lw=1)
    ax.set(xticks=range(len(runs)), xticklabels=list(runs))
    ax.set(xlabel="learning rate", ylabel="change of the loss, nats a token")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    ax.legend(frameon=False, labelcolor=GREY)
    rates = ", ".join(runs)
    return fig, f"Change of the held-out loss, in nats a token, at the rates {rates}: {'; '.join(said)}."
