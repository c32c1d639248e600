"""DARE: drop most of a change at random and rescale the rest.  Yu et al. 2023, arXiv:2311.03099, section 3.

    τ̂_t = m_t ⊙ τ_t / p        m_t ~ Bernoulli(p),  p: the share that is kept (`density`)

E[τ̂_t] = τ_t: the outputs keep their mean, as with dropout, and changes of several tasks seldom meet at one weight. The
τ̂_t are then summed, or merged as in TIES. Holds for small changes; large ones lose too much. Trains nothing.

Kind: combination. On: any set of changes. Trains: 0. Merges: yes. peft:
add_weighted_adapter(combination_type='dare_linear').
"""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .arithmetic import Rule, check_density, weighted_sum
from .ties import agreeing_mean


def drop(
    change: Float[Tensor, "*shape"], density: float, generator: Generator | None = None
) -> Float[Tensor, "*shape"]:
    """A random share `density` of the values, divided by it; the others 0."""
    check_density(density)
    return change * torch.bernoulli(torch.full_like(change, density), generator=generator) / density


def dare(
    changes: Float[Tensor, "tasks *shape"],
    weights: Float[Tensor, " tasks"],
    density: float = 0.1,
    rule: Rule = weighted_sum,
    generator: Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """Drop, then `rule`; for `combine`: partial(dare, density=...)."""
    return rule(torch.stack([drop(c, density, generator) for c in changes]), weights)


def dare_ties(
    changes: Float[Tensor, "tasks *shape"],
    weights: Float[Tensor, " tasks"],
    density: float = 0.1,
    generator: Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """Drop, then elect and merge as in TIES."""
    return dare(changes, weights, density, agreeing_mean, generator)
