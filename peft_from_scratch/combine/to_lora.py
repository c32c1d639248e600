"""Conversion to LoRA: the singular value decomposition of ΔW, cut at a rank or at a share of its energy.

    ΔW = W' - W = U diag(σ) Vᵀ,    B = U_r diag(σ_r),  A = V_rᵀ        the best of rank r (Eckart and Young 1936)

So that what OFT, LoHa or full fine-tuning of a layer has learned can be served by tools that know only LoRA. How near
it comes is a property of the method: ‖ΔW - B A‖² / ‖ΔW‖² is 1 minus the energy Σ_{i≤r} σ_i² / Σ σ_i². Trains nothing.

Paper: Hugging Face peft 2025, convert_to_lora. Kind: combination. On: every layer whose method merges. Trains: 0.
Merges: yes. peft: convert_to_lora.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..adapt import adapters
from ..adapter import Adapter, Replaced
from ..layers import is_linear, weight_of
from ..methods.mixture.experts import Experts
from ..targets import output_head
from .loras import low_rank


@torch.no_grad()
def to_lora(model: nn.Module, rank: int | float, name: str | None = None) -> Experts:
    """LoRAs that do what the adapters of `model` (those called `name`) do, for `inject_loras`.

    A `Replaced` linear layer is converted too; replaced heads, norms and embeddings are left out, since no LoRA
    stands there: take them along as they are.
    `rank`: a whole number for every layer, or a share of the energy above 0 and up to 1, from which each layer's rank
    follows. NotImplementedError for a method that does not merge, ValueError where it changes a bias.
    """
    if isinstance(rank, float) and not 0 < rank <= 1:
        raise ValueError(f"a rank that is no whole number is a share of the energy, above 0 and at most 1, not {rank}")
    head = output_head(model)
    found = {site: change_of(a) for site, a in adapters(model, name) if not _apart(a, head)}
    if not found:
        raise ValueError("this model has no adapter to convert")
    return {site: low_rank(ΔW, rank if isinstance(rank, int) else rank_for(ΔW, rank)) for site, ΔW in found.items()}


def _apart(adapter: Adapter, head: set[nn.Module]) -> bool:
    """Is it trained in full at a place where a LoRA does not go?"""
    return isinstance(adapter, Replaced) and (adapter.base in head or not is_linear(adapter.base))


def change_of(adapter: Adapter) -> Float[Tensor, "d_out d_in"]:
    """W' - W, in float64 so that it is not a difference of rounded weights; returned in the dtype of training."""
    exact = copy.deepcopy(adapter).double()
    new, old = exact.merged(), exact.base
    before, after = getattr(old, "bias", None), getattr(new, "bias", None)
    if before is not None and not torch.allclose(before, after, rtol=0, atol=1e-12):
        raise ValueError(f"{type(adapter).__name__} changes the bias too, which a LoRA without one cannot hold")
    return (weight_of(new) - weight_of(old)).to(torch.promote_types(adapter.weight.dtype, torch.float32))


def rank_for(change: Float[Tensor, "d_out d_in"], energy: float) -> int:
    """The smallest rank whose singular values hold that share of Σ σ²."""
    σ = torch.linalg.svdvals(change.double())
    held = (σ**2).cumsum(0)
    return min(int((held < energy * held[-1]).sum()) + 1, len(σ))
