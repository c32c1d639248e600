"""One function a figure; each returns the Figure and its sentence, which is also its alternative text.

Okabe and Ito's colours, which colour-blind readers can tell apart; transparent ground and mid-grey text, for light and
dark pages.
"""

import base64
import html
import io

import matplotlib
import matplotlib.ticker
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
    display({"text/html": as_html(fig, alt), "text/plain": alt}, raw=True)


def as_html(fig: Figure, alt: str) -> str:
    """The figure as HTML that needs no file, with its sentence as caption and alternative text."""
    png = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(png, format="png", dpi=110)
    data, words = base64.b64encode(png.getvalue()).decode(), html.escape(alt)
    picture = f'<img alt="{words}" style="max-width:100%" src="data:image/png;base64,{data}">'
    return f'<figure style="margin:0">{picture}<figcaption>{words}</figcaption></figure>'


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


def truncation(curve: dict) -> tuple[Figure, str]:
    """Lesson 04: what the top ranks of a change hold (energy) and what they carry (accuracy), in per cent.

    `curve` has ranks, energy and accuracy (lists of one length), full and dropped (accuracies: the whole change; all
    but its top 8 ranks).
    """
    fig, (left, right) = figure(9.5, 3.4, 2, width_ratios=[2, 1])
    at, energy, accuracy = range(len(curve["ranks"])), curve["energy"], curve["accuracy"]
    left.plot(at, energy, "o--", color=COLOURS["full"], label="energy of the change")
    left.plot(at, accuracy, "D-", color=COLOURS["LoRA"], label="test accuracy")
    left.set(xticks=at, xticklabels=curve["ranks"], xlabel="ranks kept of every matrix", ylabel="%", ylim=(0, 104))
    left.legend(frameon=False, labelcolor=GREY, loc="lower right")
    bars = {"none": accuracy[0], "top 2": accuracy[curve["ranks"].index(2)], "all but\ntop 8": curve["dropped"]}
    bars["all"] = curve["full"]
    right.bar(bars.keys(), bars.values(), color=[FAINT, COLOURS["LoRA"], OTHER, COLOURS["full"]])
    for x, value in enumerate(bars.values()):
        right.annotate(f"{value:.1f}", (x, value), (0, 3), textcoords="offset points", ha="center", color=GREY)
    right.set(ylim=(40, 100), ylabel="test accuracy, %")
    pairs = zip(curve["ranks"], energy, accuracy, strict=True)
    told = "; ".join(f"rank {r}: {e:.0f} % of the energy, accuracy {a:.1f} %" for r, e, a in pairs)
    alt = f"Keeping the top ranks of every change. {told}. All but the top 8: {curve['dropped']:.1f} %; "
    return fig, alt + f"the whole change: {curve['full']:.1f} %."


def cut_to_rank(dW, r: int, corner: int = 48) -> tuple[Figure, str]:
    """A corner of the matrix `dW` (a tensor), of its nearest matrix of rank r, and of what is left over."""
    import torch

    U, S, Vh = torch.linalg.svd(dW.float(), full_matrices=False)
    near = U[:, :r] * S[:r] @ Vh[:r]
    fig, axes = figure(9.5, 3.2, 3)
    most = dW[:corner, :corner].abs().max().item()
    for ax, part, title in zip(axes, (dW, near, dW - near), ("the change", f"its rank {r}", "the rest"), strict=True):
        ax.imshow(part[:corner, :corner], cmap="cividis", vmin=-most, vmax=most)
        ax.set(title=title, xticks=[], yticks=[])
    share = (S[:r].square().sum() / S.square().sum()).item()
    rows, columns = dW.shape
    alt = (
        f"A corner of a {rows} by {columns} change of weights, of its nearest matrix of rank {r}, and of the rest. "
        f"Rank {r} holds {percent(share)} of the energy, with {percent(r * (rows + columns) / rows / columns)} "
        "of the numbers."
    )
    return fig, alt


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


def parameter_lists(sides: dict[str, list[tuple[str, bool, bool]]]) -> tuple[Figure, str]:
    """Parameters in columns, one list a column: (name, does it train, is it saved). Filled: trains; framed: saved."""
    longest = max(map(len, sides.values()))
    fig, axes = figure(10, 0.26 * longest + 0.7, len(sides))
    said = []
    for ax, (title, rows) in zip(axes, sides.items(), strict=True):
        for y, (name, trains, saved) in enumerate(rows):
            colour = COLOURS["LoRA"] if trains else GREY
            ax.plot(0, y, "o", ms=7, mec=colour, mfc=colour if trains else "none")
            if saved:
                ax.plot(0, y, "s", ms=12, mec=COLOURS["full"], mfc="none", mew=1.5)
            style = {"family": "monospace", "fontsize": 9, "weight": "bold" if trains else "normal", "color": GREY}
            ax.text(0.5, y, name, va="center", **style)
        ax.set(xlim=(-0.5, 10), ylim=(longest - 0.4, -0.8))
        ax.set_title(title, loc="left")
        ax.axis("off")
        train, keep = sum(row[1] for row in rows), sum(row[2] for row in rows)
        both = "they are the same" if all(row[1] == row[2] for row in rows) else "they are not the same"
        said.append(f"{title}: {len(rows)} tensors, {train} train (filled), {keep} are saved (framed); {both}")
    return fig, "; ".join(said) + "."


def reloads(runs: dict[str, dict]) -> tuple[Figure, str]:
    """Runs that were trained, saved and loaded again: training loss on the left, accuracy then and now on the right.

    {name: run}; a run has loss (a list, one a step), accuracy and reloaded (of test, per cent), and perhaps heads: what
    several random heads gave, of which `reloaded` is the mean.
    """
    fig, (left, right) = figure(10.5, 3.4, 2, width_ratios=[1, 1.2])
    said = []
    colours = [*COLOURS.values(), OTHER]
    for y, ((name, run), dash) in enumerate(zip(runs.items(), ("-", "--", ":", "-."), strict=False)):
        smooth = [sum(run["loss"][max(0, i - 9) : i + 1]) / min(i + 1, 10) for i in range(len(run["loss"]))]
        left.plot(range(1, len(smooth) + 1), smooth, dash, color=colours[y], lw=2)
        right.plot([run["accuracy"], run["reloaded"]], [y, y], dash, color=colours[y], lw=2)
        right.plot(run["accuracy"], y, "o", color=colours[y], ms=9)
        right.plot(run["reloaded"], y, "o", mec=colours[y], mfc="none", ms=9, mew=2)
        right.plot(run.get("heads", []), [y] * len(run.get("heads", [])), "|", color=colours[y], ms=12)
        said.append(f"{name}: {run['accuracy']:.1f} % when trained, {run['reloaded']:.1f} % when loaded again")
        if "heads" in run:
            said[-1] += f" (mean of heads from {min(run['heads']):.1f} to {max(run['heads']):.1f} %)"
    left.set(xlabel="step", title="training loss, mean of 10 steps")
    right.set(yticks=range(len(runs)), yticklabels=list(runs), ylim=(len(runs) - 0.5, -0.5))
    right.set(title="test accuracy in %: ● trained  ○ loaded again  | one head")
    right.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    return fig, "Test accuracy. " + "; ".join(said) + ". Line styles on the left are those on the right."


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
    ax.set(xticks=range(len(runs)), xticklabels=list(runs), xlabel="learning rate", ylabel="change of the loss")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    ax.legend(frameon=False, labelcolor=GREY)
    rates = ", ".join(runs)
    return fig, f"Change of the held-out loss, in nats a token, at the rates {rates}: {'; '.join(said)}."


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
        ax.scatter(x, y, 40 + row["trained"] / 16_000, color=colour, alpha=0.5, marker="o" if on else "D", lw=0)
        ax.scatter([x] * len(row["accuracy"]), [100 * each for each in row["accuracy"]], 18, color=colour, marker="_")
        ax.annotate(row["name"], (x, y), (9, -13), textcoords="offset points", color=GREY)
    ax.set(xlabel="FLOPs of a step, full fine-tuning = 1", ylabel="test accuracy, %")
    told = "; ".join(
        f"{row['name']}: {row['trained']:,} numbers, {row['flops']:.3f} of the FLOPs, {means[row['name']]:.1f} %"
        for row in rows
    )
    return fig, f"Accuracy against price; dashes are seeds, a larger bubble trains more numbers. {told}."


def rulers(weights: list[float], codes: dict[str, list[float]]) -> tuple[Figure, str]:
    """Lesson 06: the same weights, between -1 and 1, on rulers with 16 marks each; what a weight of 0 becomes.

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
    alt = f"The same {len(weights)} weights (dots) on {len(codes)} rulers of 16 marks; the dotted line is zero. "
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
    left.set(xlabel="bits a weight", ylabel="relative error, %", ylim=(0, None))
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
        places = spread([scores[name] for name in names], (max(scores.values()) - min(scores.values())) / 12)
        for name, y in zip(names, places, strict=True):
            text = f"{name} {scores[name]:.1f}"
            style = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 9, "color": GREY}
            ax.annotate(text, (x, y), ((x - 0.5) * 14, 0), **style)
    ax.set(xlim=(-0.35, 1.35), xticks=[0, 1], xticklabels=["first reviews", "other reviews"], yticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)
    told = ", ".join(f"{name} {first[name]:.1f} then {again[name]:.1f}" for name in order)
    alt = f"Accuracy in per cent on the first and on other test reviews: {told}. "
    return fig, alt + f"{order[0]} was first, and stands at place {later.index(order[0]) + 1} the second time."


def spread(places: list[float], gap: float) -> list[float]:
    """Falling heights, moved down where two would stand nearer than `gap`."""
    out: list[float] = []
    for y in places:
        out.append(min(y, out[-1] - gap) if out else y)
    return out


VERDICTS = {"yes": (COLOURS["full"], "o"), "no": (COLOURS["LoRA"], "X"), "not decided": (GREY, "D")}


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
        for i, row in enumerate(on):
            at, down = (row[cost], row["quality"]), -13 if i % 2 else 6
            ax.annotate(row["name"], at, (4, down), textcoords="offset points", fontsize=8, color=GREY)
        ax.set(xscale="log", xlabel=f"{cost}, of full fine-tuning")
        ax.margins(x=0.25, y=0.12)
        low, high = ax.get_xlim()
        ticks = [tick for tick in (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 1) if low <= tick <= high]
        ax.set_xticks(ticks, [percent(tick) for tick in ticks])
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
