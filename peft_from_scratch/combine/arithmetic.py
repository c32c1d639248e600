"""Task arithmetic: add, weigh and subtract what was learned.  Ilharco et al. 2022, arXiv:2212.04089, section 2.

    τ_t = θ_t - θ_0        θ = θ_0 + Σ_t λ_t τ_t

τ_t: a task vector, all that training on task t has changed, as a dict of tensors; a negative λ_t unlearns. Adapters are
such changes too, but a factor of a product is not: for LoRA's A and B see loras.py. Trains nothing.

    change = combine([task_vector(a, start), task_vector(b, start)], [0.5, 0.5], rule)
    model.load_state_dict(add(start, change))

A rule makes one tensor of the stacked tensors of all tasks: `weighted_sum` here, others in prune, ties and dare.

Kind: combination. On: any set of changes. Trains: 0. Merges: yes. peft:
add_weighted_adapter(combination_type='linear').
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

State = Mapping[str, Tensor]
Rule = Callable[[Tensor, Tensor], Tensor]  # (tasks, *shape) and a weight for each task -> (*shape)


def weighted_sum(changes: Float[Tensor, "tasks *shape"], weights: Float[Tensor, " tasks"]) -> Float[Tensor, "*shape"]:
    """Σ_t λ_t τ_t."""
    return weighed(changes, weights).sum(0)


def weighed(changes: Float[Tensor, "tasks *shape"], weights: Float[Tensor, " tasks"]) -> Float[Tensor, "tasks *shape"]:
    """Each task's change times its weight."""
    return changes * weights.to(changes).reshape(-1, *[1] * (changes.dim() - 1))


def task_vector(after: State, before: State) -> dict[str, Tensor]:
    """What training changed. ValueError for states of different models."""
    _check_alike([after, before])
    return {k: after[k].detach() - before[k].detach() for k in after}


def add(before: State, change: State, scale: float = 1.0) -> dict[str, Tensor]:
    """θ_0 + λ τ; what `change` does not name stays. ValueError for a name that `before` lacks."""
    if odd := change.keys() - before.keys():
        raise ValueError(f"the change names {len(odd)} tensors that the model lacks: {', '.join(sorted(odd)[:3])}")
    return {k: t.detach() + scale * change[k].to(t) if k in change else t.detach() for k, t in before.items()}


def combine(
    changes: Sequence[State], weights: Sequence[float], rule: Rule = weighted_sum, whole: bool = True
) -> dict[str, Tensor]:
    """One change of many. `whole`: the rule sees each task as one long vector, as the papers have it, so that a share
    of it may be found mostly in a few tensors; False: each tensor on its own, as Hugging Face peft does.
    """
    _check_alike(changes)
    λ = torch.tensor(check_weights(weights, len(changes)))
    if not whole:
        return {k: rule(torch.stack([c[k].detach() for c in changes]), λ) for k in changes[0]}
    first = list(changes[0].items())
    vector = rule(torch.stack([torch.cat([c[k].detach().flatten() for k, _ in first]) for c in changes]), λ)
    parts = vector.split([t.numel() for _, t in first])
    return {k: part.reshape(t.shape).to(t.dtype) for (k, t), part in zip(first, parts, strict=True)}


def check_weights(weights: Sequence[float], tasks: int) -> list[float]:
    """The weights as floats; ValueError where there is not one for each of some tasks."""
    if not tasks or len(weights) != tasks:
        raise ValueError(f"{len(weights)} weights for {tasks} changes: give each change one weight")
    return [float(w) for w in weights]


def check_density(density: float) -> None:
    """ValueError for a share that is none."""
    if not 0 < density <= 1:
        raise ValueError(f"density is the share of values to keep, above 0 and at most 1, not {density}")


def _check_alike(states: Sequence[State]) -> None:
    shapes = [{k: t.shape for k, t in state.items()} for state in states]
    for i, other in enumerate(shapes):
        if other != shapes[0]:
            odd = sorted(k for k in other.keys() | shapes[0].keys() if other.get(k) != shapes[0].get(k))
            raise ValueError(f"states 0 and {i} differ in names or shapes of {len(odd)} tensors: {', '.join(odd[:3])}")
