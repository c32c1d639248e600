"""W + S: a change at few positions of a weight, and what the sparse methods share to choose them.

S has |positions| non-zero numbers, which train; where they stand is fixed and saved with them. The gradient of W + S is
dense before it is picked from, so a step costs what training W costs: what is small is the optimiser's state and the
file.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...adapt import inject
from ...adapter import Adapter, Replaced
from ...layers import new_weight, refuse_4bit
from ...targets import plan, twins
from ...training.running import device_of, inputs, mode, model_loss

Batch = Mapping[str, Tensor]
LossFn = Callable[[nn.Module, Batch], Tensor]
Targets = str | tuple[str, ...]


class Sparse(Adapter):
    """`base` (any module with a weight) plus `values`, zeros at first, at flat `positions` of its stored weight."""

    def __init__(self, base: nn.Module, positions: Int[Tensor, " n"]):
        super().__init__(base)
        refuse_4bit(base, "A sparse change")
        size = base.weight.numel()
        if not positions.is_meta and not _different(positions, size):
            raise ValueError(
                f"positions must be different numbers from 0 to {size - 1}, one for each weight that trains"
            )
        # int32 halves the file, where it can count the weight
        small = torch.int32 if size < 2**31 else torch.int64
        self.register_buffer("positions", positions.to(base.weight.device, small))
        self.values = new_weight(base, len(positions))

    def changed(self) -> Float[Tensor, "..."]:
        """W + S, in the layer's own layout and dtype."""
        W = self.base.weight
        return W.flatten().index_add(0, self.positions, self.values.to(W.dtype)).view_as(W)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        return torch.func.functional_call(self.base, {"weight": self.changed()}, (x,))

    def merged(self) -> nn.Module:
        new = copy.deepcopy(self.base)
        new.weight = nn.Parameter(self.changed().detach(), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return f"{len(self.values)} of {self.base.weight.numel()}"


def _different(positions: Int[Tensor, " n"], size: int) -> bool:
    ordered = positions.sort().values
    return not len(ordered) or bool(ordered[0] >= 0 and ordered[-1] < size and (ordered.diff() > 0).all())


def sparse(model: nn.Module, positions: dict[str, Tensor], head: str | None = None) -> nn.Module:
    """Put a `Sparse` at every site with positions; train in full the modules that the pattern `head` names."""
    made = {re.escape(site): partial(Sparse, positions=p) for site, p in positions.items() if len(p)}
    return inject(model, made | ({head: Replaced} if head else {}))


def weights(model: nn.Module, targets: Targets) -> dict[str, nn.Parameter]:
    """The weight at each site that `inject(model, {targets: ...})` would adapt, in the model's order."""
    chosen = {}
    for module, (site, _) in plan(model, {targets: Sparse}, twins(model)).items():
        refuse_4bit(module, "A sparse change")
        chosen[site] = module.weight
    return {site: chosen[site] for site, _ in model.named_modules() if site in chosen}


def largest(scores: dict[str, Float[Tensor, "..."]], keep: float) -> dict[str, Int[Tensor, " n"]]:
    """Where the share `keep` of all scores stands that is the largest, over all sites together; positions ascend."""
    together = torch.cat([s.flatten() for s in scores.values()])
    k = int(keep * len(together))
    if not 0 < keep <= 1 or k < 1:
        raise ValueError(f"keep={keep} of {len(together)} numbers leaves {k} to train: use a share above 0, at most 1")
    chosen = torch.zeros_like(together, dtype=torch.bool)
    chosen[together.topk(k).indices] = True
    parts = chosen.split([s.numel() for s in scores.values()])
    return {site: part.nonzero().flatten() for site, part in zip(scores, parts, strict=True)}


def gradients(
    model: nn.Module, at: dict[str, nn.Parameter], batch: Batch, loss_fn: LossFn = model_loss
) -> dict[str, Float[Tensor, "..."]]:
    """The loss's gradient at each weight of `at`, frozen or not, without dropout; nothing else is touched."""
    before = [p.requires_grad for p in at.values()]
    try:
        for p in at.values():
            p.requires_grad_(True)
        with mode(model, False), torch.enable_grad():
            loss = loss_fn(model, inputs(batch, device_of(model)))
            return dict(zip(at, torch.autograd.grad(loss, list(at.values())), strict=True))
    finally:
        for p, was in zip(at.values(), before, strict=True):
            p.requires_grad_(was)


def summed(terms: Iterable[dict[str, Float[Tensor, "..."]]]) -> dict[str, Float[Tensor, "..."]]:
    """The sum at each site. ValueError where there are no terms."""
    total: dict[str, Tensor] = {}
    for term in terms:
        total = {site: total[site] + t if total else t for site, t in term.items()}
    if not total:
        raise ValueError("there are no batches to score the weights with: give at least one")
    return total
