"""TIES: trim, elect a sign, then average only what agrees with it.  Yadav et al. 2023, arXiv:2306.01708, section 4.

    τ̂_t = the largest values of τ_t        γ = sgn(Σ_t τ̂_t)        τ = mean of λ_t τ̂_t over the t with sgn(τ̂_t) = γ

elementwise. Where tasks pull a weight both ways, a sum would keep little of either; here the stronger side wins. The
mean counts tasks, it does not divide by Σ λ_t. The paper then scales: θ = θ_0 + λ τ. Trains nothing.

Kind: combination. On: any set of changes. Trains: 0. Merges: yes. peft: add_weighted_adapter(combination_type='ties').
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .arithmetic import weighed
from .prune import largest


def ties(
    changes: Float[Tensor, "tasks *shape"], weights: Float[Tensor, " tasks"], density: float = 0.2, vote: str = "total"
) -> Float[Tensor, "*shape"]:
    """The rule; for `combine`: partial(ties, density=...)."""
    return agreeing_mean(torch.stack([largest(c, density) for c in changes]), weights, vote)


def agreeing_mean(
    changes: Float[Tensor, "tasks *shape"], weights: Float[Tensor, " tasks"], vote: str = "total"
) -> Float[Tensor, "*shape"]:
    """Elect and merge, without the trim."""
    agrees = changes.sign() == elect(changes, vote)
    return (weighed(changes, weights) * agrees).sum(0) / agrees.sum(0).clamp_min(1)


def elect(changes: Float[Tensor, "tasks *shape"], vote: str = "total") -> Float[Tensor, "*shape"]:
    """γ: by the sum of the values ("total", the paper), or one task one vote ("frequency").

    Where the sides are equal γ = 0 and nothing is merged; peft takes the positive side there. "frequency", which is
    peft's and where equal votes are common, does so too.
    """
    if vote not in ("total", "frequency"):
        raise ValueError(f"vote is {vote!r}: choose 'total' or 'frequency'")
    if vote == "frequency":
        return torch.where(changes.sign().sum(0) >= 0, 1.0, -1.0).to(changes)
    return changes.sum(0).sign()
