"""AdapterFusion: attention over the adapters of several tasks.  Pfeiffer et al. 2020, arXiv:2005.00247, section 3.2.

    y = LN(u + Σ_i a_i V A_i(h)),   a = softmax_i((Q h) · (K A_i(h))),   h = LN(u),  u = f + x

A_i: Pfeiffer adapters, trained one task each, now frozen. Q, K, V: (d, d). V starts as the identity (with 1e-6 beside
the diagonal), Q and K as normals of deviation 0.02: nearly the mean of the adapters. `penalty` keeps V near there.
Trains 3 d² numbers a block, and 2 d more with `bias`: the paper has none, the `adapters` library has it on Q and K
(that of K adds one number to all scores of a token, which softmax takes out again).

    states = [adapter_state(model_a), adapter_state(model_b)]       # both with pfeiffer adapters
    model = inject(model, fusion(model, states))

Kind: combination. On: blocks of BERT, GPT-2, Llama, T5 (places.py): their end. Trains: 3 * d_out**2 + (2 * d_out if
bias else 0). Merges: no.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import new_weight
from ...targets import Targets
from .bottleneck import Bottleneck, InBlock, width
from .pfeiffer import at_end
from .places import Block, Places, blocks


class Fused(nn.Module):
    """Σ_i a_i V A_i(h) for frozen `experts` A_i."""

    def __init__(self, layer: nn.Module, experts: list[nn.Module], bias: bool = False):
        super().__init__()
        if not experts:
            raise ValueError("fusion needs at least one trained adapter: give the states of models that have them")
        self.experts = nn.ModuleList(experts).requires_grad_(False)
        d = width(layer)
        self.Q, self.K, self.V = (new_weight(layer, d, d) for _ in range(3))
        for W in self.Q, self.K:
            nn.init.normal_(W, std=0.02)
        nn.init.constant_(self.V, 1e-6)
        with torch.no_grad():
            self.V.fill_diagonal_(1.0)
        self.b_Q, self.b_K = (new_weight(layer, d) for _ in range(2)) if bias else (None, None)

    def forward(self, h: Shaped[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        z = torch.stack([A(h) for A in self.experts], -2)
        q = F.linear(h.to(self.Q.dtype), self.Q, self.b_Q)
        a = ((F.linear(z, self.K, self.b_K) @ q[..., None]).squeeze(-1)).softmax(-1)
        return F.linear((a[..., None, :] @ z).squeeze(-2), self.V)  # V after the sum: one product, not one an adapter

    def extra_repr(self) -> str:
        experts = "; ".join(A.extra_repr() for A in self.experts)
        return f"experts=[{experts}]" + (", bias=True" if self.b_Q is not None else "")


def fusion(
    model: nn.Module,
    states: list[dict[str, Tensor]],
    act: str = "relu",
    bias: bool = False,
    places: Places | None = None,
) -> Targets:
    """What `inject(model, ...)` needs. `states`: of Pfeiffer adapters on this model, with the non-linearity `act`."""
    chosen: Targets = {}
    for block in blocks(model, places):
        experts = [trained_expert(block, state, act) for state in states]
        chosen |= at_end([block], lambda layer, experts=experts: Fused(layer, experts, bias))
    return chosen


def trained_expert(block: Block, state: dict[str, Tensor], act: str) -> Bottleneck:
    """The A of one block with the numbers of a state. KeyError where the state has none there."""
    prefix = f"{block.site('end')}.A."
    own = {key: state[prefix + key] for key in ("D", "b_D", "U", "b_U") if prefix + key in state}
    if len(own) < 4:
        raise KeyError(f"a state has no Pfeiffer adapter at {block.site('end')!r}: use adapter_state of one with them")
    expert = Bottleneck(block.norm, len(own["D"]), act)
    expert.load_state_dict(own)
    return expert


def penalty(model: nn.Module, weight: float = 0.01) -> Float[Tensor, ""]:
    """weight · Σ over blocks of ‖V - I‖², to add to the loss."""
    fused = [a.A for _, a in adapters(model) if isinstance(a, InBlock) and isinstance(a.A, Fused)]
    if not fused:
        raise ValueError("no block has a fusion to penalise: inject fusion(model, states) first")
    return weight * sum((f.V - torch.eye(len(f.V), device=f.V.device)).square().sum() for f in fused)
