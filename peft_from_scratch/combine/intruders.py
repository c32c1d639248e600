"""Intruder dimensions: directions that a LoRA added and the pretrained weight never had.
Shuttleworth et al. 2024, arXiv:2410.21228, section 3 and section 5.

    W + ΔW = Σ_i σ_i u_i v_iᵀ        u_i intrudes if |cos(u_i, u⁰_j)| < ε for all left singular vectors u⁰_j of W
    ΔW' = ΔW - (1 - λ) Σ_{intruders} σ_i u_i v_iᵀ

looked for among the `top` largest σ_i. Full fine-tuning turns the old directions a little, LoRA of low rank adds new
ones, and these go with forgetting: shrinking them to a share λ gives back some of what was forgotten, and costs some of
the task. Trains nothing.

Kind: combination. On: LoRAs and their base. Trains: 0. Merges: yes. peft: reduce_intruder_dimension.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..adapt import adapters
from ..layers import weight_of
from ..methods.lowrank.lora import LoRA
from ..methods.maths import svd
from ..methods.mixture.experts import Experts
from .loras import low_rank


def intruders(
    W: Float[Tensor, "d_out d_in"], change: Float[Tensor, "d_out d_in"], top: int = 10, below: float = 0.5
) -> Int[Tensor, " found"]:
    """Which of the `top` singular directions of W + ΔW have no counterpart in W: none with a cosine of `below`."""
    if top < 1 or not 0 < below <= 1:
        raise ValueError(f"top must be at least 1 and below a cosine from 0 to 1, not {top} and {below}")
    before, after = svd(W)[0], svd(W + change)[0][:, :top]
    return ((after.T @ before).abs().amax(1) < below).nonzero().flatten()


def shrunk(
    W: Float[Tensor, "d_out d_in"], change: Float[Tensor, "d_out d_in"], keep: float = 0.75, **how
) -> Float[Tensor, "d_out d_in"]:
    """ΔW with a share `keep` of its intruders; `how`: see `intruders`."""
    U, σ, Vt = svd(W + change)
    found = intruders(W, change, **how)
    return change - (1 - keep) * (U[:, found] * σ[found]) @ Vt[found]


@torch.no_grad()
def reduce_intruders(model: nn.Module, name: str | None = None, keep: float = 0.75, **how) -> Experts:
    """The LoRAs of `model` (those called `name`) with smaller intruders, at their old ranks, for `inject_loras`."""
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is the share of an intruder that stays, from 0 to 1, not {keep}")
    loras = {site: a for site, a in adapters(model, name) if isinstance(a, LoRA)}
    if not loras:
        raise ValueError(f"no adapter {name or ''!r} of this model is a LoRA")
    return {
        site: low_rank(shrunk(weight_of(a.base).to(a.A), a.change(), keep, **how), a.rank) for site, a in loras.items()
    }
