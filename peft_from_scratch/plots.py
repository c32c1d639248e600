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
