"""Lesson 03: where the gradient passes, and what training there gives."""

from matplotlib.figure import Figure

from .base import COLOURS, FAINT, GREY, figure, percent


def layer_stack(name: str, layers: int, deep: int, whole: int, trained: int, ratio: float) -> tuple[Figure, str]:
    """Lesson 03: which of the three products of each layer a step needs: forward, gradient on its way, of the weights.

    The gradient passes the top `deep` layers and the top `whole` of them train in full; `ratio` is what was counted.
    """
    fig, (ax,) = figure(6.4, 0.34 * layers + 1.1)
    kinds = {"forward": layers, "gradient on\nits way down": deep, "gradient of\nthe weights": whole}
    for x, (colour, reach) in enumerate(zip((GREY, COLOURS["full"], COLOURS["LoRA"]), kinds.values(), strict=True)):
        for layer in range(layers):
            needed = layer >= layers - reach
            hatch = (None, "///", "xxx")[x] if needed else None
            ax.barh(layer, 0.9, 0.8, left=x, color=colour if needed else "none", edgecolor=FAINT, hatch=hatch)
    ax.set(yticks=range(layers), yticklabels=[f"layer {i}" for i in range(layers)])
    ax.set(xticks=[x + 0.45 for x in range(3)], xticklabels=kinds.keys())
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    filled = sum(kinds.values())
    alt = (
        f"{name} trains {trained:,} numbers. Of the {3 * layers} products of {layers} layers a step needs {filled}, or "
        f"{percent(filled / 3 / layers)} of full fine-tuning: forward {layers}, gradient on its way down {deep}, "
        f"gradient of the weights {whole}. Counted: {percent(ratio)}."
    )
    return fig, alt


def ladder(rows: list[dict]) -> tuple[Figure, str]:
    """Lesson 03: test accuracy against the FLOPs of a step; the area of a bubble grows with the trained numbers.

    A row has name, trained, flops (of full fine-tuning's) and accuracy (a list, one a seed); "head only", "top k" and
    "full" are joined by a line.
    """
    fig, (ax,) = figure(8.5, 4.2)
    rungs = [row for row in rows if row["name"].startswith(("head", "top", "full"))]
    means = {row["name"]: 100 * sum(row["accuracy"]) / len(row["accuracy"]) for row in rows}
    ax.plot([row["flops"] for row in rungs], [means[row["name"]] for row in rungs], color=COLOURS["full"], lw=1.5)
    for row in rows:
        on = row in rungs
        x, y, colour = row["flops"], means[row["name"]], COLOURS["full"] if on else COLOURS["LoRA"]
        area = 40 + row["trained"] / 16_000
        ax.scatter(x, y, area, color=colour, alpha=0.7, marker="o" if on else "D", lw=0)
        ax.scatter([x] * len(row["accuracy"]), [100 * each for each in row["accuracy"]], 18, color=colour, marker="_")
        clear = area**0.5 / 2 + 9  # points from the middle of the bubble
        place, side = ((7, -clear), "left") if on else ((clear, 0), "left")
        if on and x > 0.9:  # top 6 stands beside full
            place, side = ((0, clear), "center") if row["name"] == "full" else ((-7, -clear), "right")
        ax.annotate(row["name"], (x, y), place, textcoords="offset points", color=GREY, ha=side, va="center")
    ax.margins(y=0.12)
    ax.set(xlabel="FLOPs of a step, full fine-tuning = 1", ylabel="test accuracy, %")
    told = "; ".join(
        f"{row['name']}: {row['trained']:,} numbers, {row['flops']:.3f} of the FLOPs, {means[row['name']]:.1f} %"
        for row in rows
    )
    return fig, f"Accuracy against price; dashes are seeds, a larger bubble trains more numbers. {told}."
