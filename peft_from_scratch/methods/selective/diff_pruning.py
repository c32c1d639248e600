"""Diff pruning: learn a change and, with it, where it is zero.  Guo, Rush and Kim 2021, arXiv:2012.07463.

    y = (W + z ⊙ w) x + b        z = clip(s (r - l) + l, 0, 1),   s = σ(log u - log(1 - u) + α),   u ~ U(0, 1)

z is a hard-concrete gate (Louizos et al. 2018, arXiv:1712.01312): stretched to l = -1.5, r = 1.5 and clipped, it is
exactly 0 or 1 with positive probability, and still has a gradient. In eval mode u = 1/2. Starts as the base (w = 0)
with all gates open (α = 5). Trains 2 d_in d_out numbers a layer, and with `grouped` one gate for the whole.
`penalty` is the expected number of open gates: add λ times it to the loss. `project` then keeps exactly so many changes
and fixes the gates.

Kind: selective. On: any layer with a weight. Trains: 2 * d_in * d_out + grouped. Merges: yes.
"""

import copy

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import new_weight, refuse_4bit
from ...training.running import mode
from .sparse import largest

LEFT, RIGHT = -1.5, 1.5


class DiffPruning(Adapter):
    """`base` (any module with a weight) with a gated change of every number of its weight."""

    def __init__(self, base: nn.Module, grouped: bool = False, alpha: float = 5.0):
        super().__init__(base)
        refuse_4bit(base, "Diff pruning")
        shape = base.weight.shape
        self.w = new_weight(base, *shape)
        self.alpha = nn.Parameter(torch.full_like(self.w, alpha))
        self.group = nn.Parameter(self.alpha.new_full((), alpha)) if grouped else None

    def change(self) -> Float[Tensor, "..."]:
        """z ⊙ w, with one more z for the whole where `grouped`."""
        z = self.gate(self.alpha)
        return z * self.w if self.group is None else self.gate(self.group) * z * self.w

    def gate(self, alpha: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z: drawn anew in training, in its middle in eval mode. α = ±∞ is a gate fixed open or shut."""
        noise = torch.rand_like(alpha).logit() if self.training else 0.0
        return (torch.sigmoid(noise + alpha) * (RIGHT - LEFT) + LEFT).clamp(0, 1)

    def open(self) -> Float[Tensor, "..."]:
        """P(z > 0) of each gate: σ(α - log(-l / r))."""
        shift = torch.log(self.alpha.new_tensor(-LEFT / RIGHT))
        p = torch.sigmoid(self.alpha - shift)
        return p if self.group is None else p * torch.sigmoid(self.group - shift)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        W = self.base.weight
        return torch.func.functional_call(self.base, {"weight": W + self.change().to(W.dtype)}, (x,))

    def merged(self) -> nn.Module:
        new = copy.deepcopy(self.base)
        W = self.base.weight
        new.weight = nn.Parameter((W + self.change().to(W.dtype)).detach(), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return "grouped=True" if self.group is not None else ""


def penalty(model: nn.Module) -> Float[Tensor, ""]:
    """The expected L0 norm: how many gates are open, over the whole model."""
    return sum(a.open().sum() for a in _all(model).values())


def project(model: nn.Module, keep: float) -> nn.Module:
    """Keep the share `keep` of the changes that is the largest, shut the other gates, and train w alone from now on."""
    found = _all(model)
    with torch.no_grad(), mode(model, False):
        kept = largest({site: a.change().abs() for site, a in found.items()}, keep)
        for site, adapter in found.items():
            fixed = torch.full_like(adapter.alpha, -torch.inf)
            fixed.view(-1)[kept[site]] = torch.inf
            for gate, value in ((adapter.alpha, fixed), (adapter.group, torch.inf)):
                if gate is not None:
                    gate.copy_(torch.as_tensor(value)).requires_grad_(False)
    return model


def _all(model: nn.Module) -> dict[str, DiffPruning]:
    """The model's DiffPruning adapters by site; ValueError where there are none."""
    found = {site: a for site, a in adapters(model) if isinstance(a, DiffPruning)}
    if not found:
        raise ValueError("this model has no DiffPruning adapter")
    return found
