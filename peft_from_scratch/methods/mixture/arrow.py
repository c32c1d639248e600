"""Arrow: send each token to the trained LoRAs whose strongest direction it shares.  Ostapenko et al. 2024,
arXiv:2405.11157, section 4.1.

    y = W x + Σ_e g_e s_e B_e A_e x       g = softmax over the top_k of |x·v_e| / T, 0 for the others

v_e: (d_in), the first right singular vector of B_e A_e: the input to which this expert answers most. Its sign says
nothing, hence the absolute value. Trains nothing: the experts come from before, the gate from them. peft finds v_e by
15 power iterations from a random start; here it is exact. Copy its `prototypes` to v for its gate.

GenKnowSub (Bagherifard et al. 2025, arXiv:2505.10939): `subtract` takes what all texts teach off each expert first.

Kind: combination. On: Linear, Conv1D, Embedding. Trains: 0. Merges: no. peft: arrow_config.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down
from ...targets import Factory
from ..parts import SAME_SITES, Sites, beside
from .experts import Expert, Experts, Mixture, at_sites


def shared(model: nn.Module, sites: Sites, experts: list[Experts], top_k: int = 3, temperature: float = 1.0) -> Factory:
    """What `inject(model, {sites: ...})` needs; `experts` come from `from_state` or `from_model`."""
    found = at_sites(model, sites, experts)

    def factory(base: nn.Module) -> Arrow:
        if base not in found:
            raise ValueError(f"no expert belongs to this {type(base).__name__}: {SAME_SITES}")
        return Arrow(base, found[base], top_k, temperature)

    return factory


class Arrow(Mixture):
    """`base` plus the experts that fit the token."""

    def __init__(self, base: nn.Module, experts: list[Expert], top_k: int = 3, temperature: float = 1.0):
        super().__init__(base, experts)
        if not 1 <= top_k <= len(experts) or temperature <= 0:
            raise ValueError(
                f"top_k must be from 1 to the {len(experts)} experts and temperature above 0, "
                f"not {top_k} and {temperature}"
            )
        self.top_k, self.temperature = top_k, temperature
        self.register_buffer("v", beside(base, torch.stack([direction(e.A, e.B) for e in experts])))

    def gate(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "... experts"]:
        """g of each token."""
        best, which = down(self.base, x, self.v).abs().topk(self.top_k)
        g = (best / self.temperature).softmax(-1)
        return g.new_zeros(*g.shape[:-1], len(self.v)).scatter(-1, which, g)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + self.mix(x, self.gate(x)).to(y.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, top_k={self.top_k}, temperature={self.temperature:g}"


@torch.no_grad()
def direction(A: Float[Tensor, "rank d_in"], B: Float[Tensor, "d_out rank"]) -> Float[Tensor, " d_in"]:
    """The unit x with the longest B A x, without ever forming B A: with Aᵀ = Q R it is B Rᵀ that needs an SVD."""
    Q, R = torch.linalg.qr(A.T.double())
    return Q @ torch.linalg.svd(B.double() @ R.T, full_matrices=False).Vh[0]


def subtract(experts: list[Experts], general: list[Experts], exact: bool = False) -> list[Experts]:
    """GenKnowSub: each expert less the mean of the `general` ones, at every site.

    The authors' code and peft subtract A from A and B from B, whose product also has the cross terms of the two sets;
    `exact` subtracts the changes themselves, s B A - mean of s B A, at the price of the ranks' sum.
    """
    if not general:
        raise ValueError("GenKnowSub needs at least one general expert")
    less = _less_exact if exact else _less
    return [{site: less(e, [g[site] for g in general]) for site, e in expert.items()} for expert in experts]


def _less(e: Expert, general: list[Expert]) -> Expert:
    if any(g.A.shape != e.A.shape or g.B.shape != e.B.shape for g in general):
        raise ValueError("subtracting A from A needs experts of one rank: use exact=True for others")
    A, B = (torch.stack(parts).mean(0) for parts in zip(*[(g.A, g.B) for g in general], strict=True))
    return Expert(e.A - A, e.B - B, e.scale)


def _less_exact(e: Expert, general: list[Expert]) -> Expert:
    A = torch.cat([e.A, *(g.A for g in general)])
    B = torch.cat([e.scale * e.B, *(-g.scale / len(general) * g.B for g in general)], 1)
    return Expert(A, B, 1.0)
