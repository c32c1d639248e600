"""Joined LoRAs: several as one, joined exactly, cut to a rank, or mixed factor by factor.

    cat      A = [λ_1 s_1 A_1; λ_2 s_2 A_2; ...],  B = [B_1, B_2, ...]      B A = Σ_t λ_t s_t B_t A_t, of rank Σ_t r_t
    by_svd   the best rank-r approximation of Σ_t λ_t s_t B_t A_t, or of what another rule makes of these products
    linear   A = Σ_t √(λ_t s_t) A_t,  B = Σ_t √(λ_t s_t) B_t                of rank r, but B A has cross terms B_t A_u

Only the first is exact. `linear` mixes tasks that never met: it keeps what LoRAs of one ancestor share and little else,
yet it is what most tools do by default. Trains nothing. A negative weight subtracts (its sign goes to A).

    set_ = cat([from_model(model, "poet"), from_model(model, "coder")], [0.5, 0.5])      # mixture/experts.py
    inject_loras(model, set_, "both")

Paper: Hugging Face peft 2023, add_weighted_adapter. Kind: combination. On: LoRAs of one base. Trains: 0. Merges: yes.
peft: add_weighted_adapter.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..adapt import inject
from ..methods.lowrank.lora import LoRA, Start
from ..methods.maths import svd
from ..methods.mixture.experts import Expert, Experts
from ..methods.parts import beside
from .arithmetic import Rule, check_weights, weighted_sum

Weighed = list[tuple[Expert, float]]  # the LoRAs at one site, with their weights


def cat(loras: Sequence[Experts], weights: Sequence[float]) -> Experts:
    """Exactly the weighted sum; its rank is the sum of the ranks."""

    def join(given: Weighed) -> Expert:
        A = torch.cat([w * e.scale * e.A for e, w in given])
        return Expert(A, torch.cat([e.B for e, _ in given], 1), 1.0)

    return _site_by_site(loras, weights, join)


def by_svd(
    loras: Sequence[Experts], weights: Sequence[float], rank: int | None = None, rule: Rule = weighted_sum
) -> Experts:
    """The best LoRAs of `rank` (None: the largest there is) for what `rule` makes of the whole changes s_t B_t A_t."""

    def join(given: Weighed) -> Expert:
        change = rule(torch.stack([e.scale * (e.B @ e.A) for e, _ in given]), _weights(given))
        return low_rank(change, max(len(e.A) for e, _ in given) if rank is None else rank)

    return _site_by_site(loras, weights, join)


def linear(loras: Sequence[Experts], weights: Sequence[float], rule: Rule = weighted_sum) -> Experts:
    """`rule` on the A's and, apart, on the B's; ValueError for unequal ranks."""

    def join(given: Weighed) -> Expert:
        if len({len(e.A) for e, _ in given}) > 1:
            raise ValueError("factors of different ranks cannot be added: use cat or by_svd")
        λ = torch.tensor([w * e.scale for e, w in given])
        A = rule(torch.stack([e.A for e, _ in given]), λ.abs().sqrt() * torch.where(λ < 0, -1.0, 1.0))
        return Expert(A, rule(torch.stack([e.B for e, _ in given]), λ.abs().sqrt()), 1.0)

    return _site_by_site(loras, weights, join)


def low_rank(change: Tensor, rank: int) -> Expert:
    """The best approximation of `rank`: B = U_r diag(σ_r), A = V_rᵀ. ValueError for a rank that the matrix lacks."""
    if not 1 <= rank <= min(change.shape):
        raise ValueError(
            f"a {' by '.join(map(str, change.shape))} change has rank 1 to {min(change.shape)}, not {rank}"
        )
    U, σ, Vt = svd(change)
    return Expert(Vt[:rank].to(change.dtype), (U * σ)[:, :rank].to(change.dtype), 1.0)


def inject_loras(model: nn.Module, loras: Experts, name: str = "default") -> nn.Module:
    """Put a set of LoRAs into `model` as adapters called `name`, at rank and scale of their own; they can train on."""
    return inject(model, {re.escape(site): _factory(expert) for site, expert in loras.items()}, name)


def _factory(expert: Expert) -> Callable[[nn.Module], LoRA]:
    def make(base: nn.Module) -> LoRA:
        start = Start(beside(base, expert.A).clone(), beside(base, expert.B).clone())
        return LoRA(base, len(expert.A), expert.scale * len(expert.A), start=lambda *_: start)

    return make


def _site_by_site(loras: Sequence[Experts], weights: Sequence[float], join: Callable[[Weighed], Expert]) -> Experts:
    """A site that only some of the sets adapt gets what they have for it."""
    weights = check_weights(weights, len(loras))
    sites = dict.fromkeys(site for set_ in loras for site in set_)
    return {s: join([(set_[s], w) for set_, w in zip(loras, weights, strict=True) if s in set_]) for s in sites}


def _weights(given: Weighed) -> Tensor:
    return torch.tensor([w for _, w in given])
