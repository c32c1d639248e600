"""The bug museum: what became of faults that were really trained."""

from matplotlib.figure import Figure

from .base import COLOURS, GREY, OTHER, figure


def museum(runs: dict[str, dict], expected: str) -> tuple[Figure, str]:
    """Training losses of faults beside the run without one: {name: {"loss": [...], "accuracy": per cent, ...}}."""
    fig, (ax,) = figure(9, 3.6)
    colours = [COLOURS["full"], COLOURS["LoRA"], COLOURS["BitFit"], COLOURS["head only"], OTHER, GREY]
    for i, (name, run) in enumerate(runs.items()):
        style = {"lw": 3, "color": GREY} if name == expected else {"lw": 1.8, "color": colours[i % 5]}
        ax.plot(run["step"], run["loss"], label=name, linestyle=("-", "--", "-.", ":")[i % 4], **style)
    ax.set(xlabel="step", ylabel="training loss")
    ax.legend(frameon=False, labelcolor=GREY, loc="center left", bbox_to_anchor=(1, 0.5))
    told = "; ".join(
        f"{name}: loss {run['loss'][0]:.2f} to {run['loss'][-1]:.2f}, test accuracy {run['accuracy']:.1f} %"
        + "".join(f", {word} {run[word]:.1f} %" for word in ("merged", "reloaded") if word in run)
        for name, run in runs.items()
    )
    return fig, f"Training losses of faulty runs beside the right one. {told}."
