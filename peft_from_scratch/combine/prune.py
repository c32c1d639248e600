"""Magnitude prune: small values are mostly noise.

    τ̂_t = τ_t where |τ_t| is among the largest, else 0        θ = θ_0 + Σ_t λ_t τ̂_t

Keeps int(density n) of n values. The trim of TIES (Yadav et al. 2023, arXiv:2306.01708, section 4) without the rest of
it; what is kept is not rescaled, so that the change gets smaller. Trains nothing.

Paper: Yadav et al. 2023, arXiv:2306.01708 §4. Kind: combination. On: any set of changes. Trains: 0. Merges: yes. peft:
add_weighted_adapter(combination_type='magnitude_prune').
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .arithmetic import check_density, weighted_sum


def largest(change: Float[Tensor, "*shape"], density: float) -> Float[Tensor, "*shape"]:
    """The int(density n) values of largest magnitude, the others 0."""
    check_density(density)
    flat = change.flatten()
    kept = flat.abs().topk(int(density * len(flat))).indices
    return torch.zeros_like(flat).index_copy(0, kept, flat[kept]).reshape(change.shape)


def magnitude_prune(
    changes: Float[Tensor, "tasks *shape"], weights: Float[Tensor, " tasks"], density: float = 0.2
) -> Float[Tensor, "*shape"]:
    """Σ_t λ_t τ̂_t; a rule for `combine` as partial(magnitude_prune, density=...)."""
    return weighted_sum(torch.stack([largest(c, density) for c in changes]), weights)
