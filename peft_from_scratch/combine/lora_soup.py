"""LoRA soup: learn how much of each trained LoRA a layer takes.
Prabhakar et al. 2024, arXiv:2410.13025, section 3.

    y = W x + Σ_i w_i s_i B_i A_i x        A_i: (r_i, d_in), B_i: (d_out, r_i) frozen,  w: (n_experts) for each layer

Skills that were learned apart, and a task that needs them together with few examples: only the w are learned.
w_i = 1/n: starts as the mean of the changes. Merges: W + Σ_i w_i s_i B_i A_i.

    inject(model, lora_soup(model, sites, [from_model(a), from_model(b)]))      # mixture/experts.py

Kind: combination. On: Linear, Conv1D, Embedding. Trains: n_experts. Merges: yes.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ..layers import new_weight, weight_of, with_weight
from ..methods.mixture.experts import Expert, Experts, Mixture, at_sites
from ..methods.parts import SAME_SITES, Sites
from ..targets import Targets


def lora_soup(model: nn.Module, sites: Sites, experts: list[Experts]) -> Targets:
    """What `inject(model, ...)` needs."""
    found = at_sites(model, sites, experts)

    def at_site(base: nn.Module) -> LoRASoup:
        if base not in found:
            raise ValueError(f"no expert belongs to this {type(base).__name__}: {SAME_SITES}")
        return LoRASoup(base, found[base])

    return {sites: at_site}


class LoRASoup(Mixture):
    """`base` plus its experts, each times a learned number."""

    def __init__(self, base: nn.Module, experts: list[Expert]):
        super().__init__(base, experts)
        self.w = new_weight(base, len(experts))
        with torch.no_grad():
            self.w += 1 / len(experts)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + self.mix(x, self.w).to(y.dtype)

    def merged(self) -> nn.Module:
        ws = self.s * self.w[self.owner]
        return with_weight(self.base, weight_of(self.base) + (self.B * ws) @ self.A)
