"""FISH mask: train the weights that the Fisher information points to.  Sung et al. 2021, arXiv:2111.09839.

    F = 1/N Σ_i (∂ log p(y_i | x_i) / ∂ θ)²        the empirical Fisher's diagonal, one number a weight

    y = (W + S) x + b        S non-zero where F is among the largest `keep` share of all

The square is taken for each example before the sum: the square of a batch's gradient is another thing, in which
examples that pull in opposite directions cancel. S = 0: starts as the base. Trains a share `keep` of the targets'
weights. A few hundred examples are enough.

Kind: selective. On: any layer with a weight. Trains: int(keep * d_in * d_out). Merges: yes.
"""

from collections.abc import Iterable, Iterator

from jaxtyping import Float
from torch import Tensor, nn

from .sparse import Batch, LossFn, Targets, gradients, largest, model_loss, sparse, summed, weights


def fish_mask(
    model: nn.Module,
    batches: Iterable[Batch],
    keep: float = 0.005,
    targets: Targets = "all-linear",
    head: str | None = None,
    loss_fn: LossFn = model_loss,
) -> nn.Module:
    """Train the share `keep` of the targets' weights with the largest Fisher information, and `head` in full."""
    return sparse(model, largest(fisher(model, batches, targets, loss_fn), keep), head)


def fisher(
    model: nn.Module, batches: Iterable[Batch], targets: Targets = "all-linear", loss_fn: LossFn = model_loss
) -> dict[str, Float[Tensor, "..."]]:
    """F at each target's weight; `loss_fn` of one example must be -log p(y | x)."""
    at = weights(model, targets)
    examples = [one for batch in batches for one in singly(batch)]
    F = summed({site: g.square() for site, g in gradients(model, at, one, loss_fn).items()} for one in examples)
    return {site: f / len(examples) for site, f in F.items()}


def singly(batch: Batch) -> Iterator[Batch]:
    """The examples of a batch, as batches of one."""
    for i in range(len(next(iter(batch.values())))):
        yield {key: t[i : i + 1] for key, t in batch.items()}
