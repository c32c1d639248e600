"""Magnitude and gradient masks: train the weights with the highest score, over all layers together, and leave the rest.

    y = (W + S) x + b        S non-zero where the score is among the largest `keep` share of all

    score = |W|     magnitude      or -|W|: PaFi trains the smallest (Liao et al. 2023, arXiv:2305.16742)
    score = |g|     gradient       g = ∂ loss / ∂ W, the mean over batches
    score = |g W|   connection sensitivity: SNIP (Lee et al. 2019, arXiv:1810.02340, section 4.1)

S = 0: starts as the base. Trains a share `keep` of the targets' weights, more in one layer than in the other. Magnitude
asks for no data, so one mask serves every task.

Paper: Liao et al.; Lee et al. 2023, arXiv:2305.16742, arXiv:1810.02340 §4.1. Kind: selective. On: any layer with a
weight. Trains: int(keep * d_in * d_out). Merges: yes.
"""

from collections.abc import Iterable

from torch import nn

from .sparse import Batch, LossFn, Targets, gradients, largest, model_loss, sparse, summed, weights


def magnitude_mask(
    model: nn.Module,
    keep: float = 0.01,
    smallest: bool = False,
    targets: Targets = "all-linear",
    head: str | None = None,
) -> nn.Module:
    """Train the share `keep` of the targets' weights that is the largest (`smallest`: PaFi), and `head` in full."""
    sign = -1 if smallest else 1
    return sparse(
        model, largest({site: sign * W.detach().abs() for site, W in weights(model, targets).items()}, keep), head
    )


def gradient_mask(
    model: nn.Module,
    batches: Iterable[Batch],
    keep: float = 0.01,
    times_weight: bool = False,
    targets: Targets = "all-linear",
    head: str | None = None,
    loss_fn: LossFn = model_loss,
) -> nn.Module:
    """Train the share `keep` with the largest |g| over `batches` (`times_weight`: |g W|), and `head` in full."""
    at = weights(model, targets)
    g = summed(gradients(model, at, batch, loss_fn) for batch in batches)
    scores = {site: (g[site] * at[site].detach() if times_weight else g[site]).abs() for site in at}
    return sparse(model, largest(scores, keep), head)
