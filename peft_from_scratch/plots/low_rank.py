"""Lesson 04: what a low rank keeps of an update."""

import torch
from matplotlib.figure import Figure

from .base import COLOURS, FAINT, GREY, OTHER, figure, percent


def truncation(curve: dict) -> tuple[Figure, str]:
    """Lesson 04: what the top ranks of a change hold (energy) and what they bring (gain in accuracy), in per cent.

    `curve` has ranks, energy and accuracy (lists of one length), full and dropped (accuracies: the whole change; all
    but its top 8 ranks).
    """
    fig, (left, right) = figure(9.5, 3.4, 2, width_ratios=[2, 1])
    at, energy, accuracy = range(len(curve["ranks"])), curve["energy"], curve["accuracy"]
    whole = curve["full"] - accuracy[0]
    gain = [100 * (each - accuracy[0]) / whole if whole else 0.0 for each in accuracy]  # of what the whole change gains
    left.plot(at, energy, "o--", color=COLOURS["full"], label="energy of the change")
    left.plot(at, gain, "D-", color=COLOURS["LoRA"], label="gain in test accuracy")
    left.set(xticks=at, xticklabels=curve["ranks"], xlabel="ranks kept of every matrix", ylabel="% of the whole")
    left.set(ylim=(min(0, *gain), max(104, *gain)))
    left.legend(frameon=False, labelcolor=GREY, loc="lower right")
    bars = {"none": accuracy[0], "top 2": accuracy[curve["ranks"].index(2)], "all but\ntop 8": curve["dropped"]}
    bars["all"] = curve["full"]
    right.bar(bars.keys(), bars.values(), color=[FAINT, COLOURS["LoRA"], OTHER, COLOURS["full"]])
    for x, value in enumerate(bars.values()):
        right.annotate(f"{value:.1f}", (x, value), (0, 3), textcoords="offset points", ha="center", color=GREY)
    right.set(ylim=(40, 100), ylabel="test accuracy, %")
    rows = zip(curve["ranks"], energy, gain, accuracy, strict=True)
    told = "; ".join(f"rank {r}: {e:.0f} % of the energy, {g:.0f} % of the gain ({a:.1f} %)" for r, e, g, a in rows)
    alt = f"Keeping the top ranks of every change. {told}. All but the top 8: {curve['dropped']:.1f} %; "
    return fig, alt + f"the whole change: {curve['full']:.1f} %."


def cut_to_rank(dW, r: int, corner: int = 48) -> tuple[Figure, str]:
    """A corner of the matrix `dW` (a tensor), of its nearest matrix of rank r, and of what is left over."""

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
