"""LT-SFT: see what full fine-tuning moves, go back, train only that.  Ansell et al. 2022, arXiv:2110.07560.

    1. train all of θ from θ0 to θ1        2. keep the k positions with the largest |θ1 - θ0|        3. rewind to θ0
    4. train     y = (W + S) x + b         S non-zero at those positions

The lottery ticket idea (Frankle and Carbin 2019) for a change instead of a network. S = 0: step 4 starts as the base.
Trains a share `keep` of the targets' weights, after one full fine-tuning. Sparse changes of a task and of a language
add up, which is what the paper uses them for; `distance` is its penalty in both phases.

Kind: selective. On: any layer with a weight. Trains: int(keep * d_in * d_out). Merges: yes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapt import adapters
from .sparse import Sparse, Targets, largest, sparse, weights


def lottery_ticket(
    model: nn.Module,
    start: dict[str, Tensor],
    keep: float = 0.05,
    targets: Targets = "all-linear",
    head: str | None = None,
) -> nn.Module:
    """Rewind `model`, a plain model trained in full, to `start` and train only what had moved most, and `head` in full.

    `start`: its weights from before, {k: t.clone() for k, t in model.state_dict().items()}.
    """
    own = model.state_dict()
    if own.keys() != start.keys() or any(own[k].shape != start[k].shape for k in own):
        raise ValueError("`start` is not this model's state_dict from before the training: its names or shapes differ")
    moved = {site: (W.detach() - start[f"{site}.weight"]).abs() for site, W in weights(model, targets).items()}
    if not any(m.any() for m in moved.values()):
        raise ValueError("no target has moved from `start`: train the model in full first, and keep a copy as `start`")
    positions = largest(moved, keep)
    with torch.no_grad():
        model.load_state_dict(start)
    return sparse(model, positions, head)


def distance(model: nn.Module) -> Float[Tensor, ""]:
    """Mean |θ - θ0| of what trains: the paper's regulariser. Add λ times it to the loss."""
    values = [a.values for _, a in adapters(model) if isinstance(a, Sparse)]
    if not values:
        raise ValueError("this model has no sparse change, so it has no distance from its start")
    return torch.cat(values).abs().mean()
