"""AdaLoRA: give rank to the layers that need it.  Zhang et al. 2023, arXiv:2303.10512, sections 3.1 to 3.3.

    y = W x + s P Λ Q x     P: (d_out, r),  Λ = diag(r numbers),  Q: (r, d_in),  s = alpha / r at the start, for good

Λ = 0: the layer starts as it was. P and Q begin N(0, 0.02²) and are kept near orthogonal by `penalty`, so that Λ holds
singular values: setting one to zero takes one rank away, and it can come back. `RankAllocator` does so by importance,
over all layers at once.

    importance of weight w       I = |w ∂L/∂w|,  smoothed Ī,  its own change Ū = smoothed |I - Ī|,  s(w) = Ī Ū
    importance of a triplet i    s(Λ_i) + mean of s over column i of P + mean of s over row i of Q

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out + 1). Merges: yes. peft:
ADALORA.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from .importance import Allocator, Importance, State


class AdaLoRA(Adapter):
    """`base` plus s P Λ Q."""

    def __init__(self, base: nn.Module, rank: int = 12, alpha: float = 8, dropout: float = 0.0):
        super().__init__(base)
        if rank < 1 or alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, not rank={rank} and alpha={alpha}")
        d_out, d_in = weight_of(base).shape
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / (rank + 1e-5)  # the 1e-5 of the authors' code, and so of peft's files
        self.P = nn.init.normal_(new_weight(base, d_out, rank), std=0.02)
        self.Lambda = new_weight(base, rank, 1)
        self.Q = nn.init.normal_(new_weight(base, rank, d_in), std=0.02)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        PLQx = up(self.base, down(self.base, self.dropout(x), self.Lambda * self.Q), self.P)
        return y + (self.scale * PLQx).to(y.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, weight_of(self.base) + self.scale * self.P @ (self.Lambda * self.Q))

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}"


def penalty(model: nn.Module, released: bool = False) -> Float[Tensor, ""]:
    """Eq. 4: Σ ‖PᵀP - I‖² + ‖QQᵀ - I‖² (Frobenius) over the layers. Add γ times it to the loss.

    `released`: what the authors' code and peft (there γ = 0.5) add: the mean of these norms, not squared.
    """
    grams = [G for a in layers(model).values() for G in (a.P.mT @ a.P, a.Q @ a.Q.mT)]
    away = torch.stack([torch.linalg.norm(G - torch.eye(len(G)).to(G)) for G in grams])
    return away.mean() if released else away.square().sum()


def layers(model: nn.Module) -> dict[str, AdaLoRA]:
    """The AdaLoRA adapters by site; ValueError where there are none."""
    found = {site: a for site, a in adapters(model) if isinstance(a, AdaLoRA)}
    if not found:
        raise ValueError("the model has no AdaLoRA adapters: inject some first")
    return found


class RankAllocator(Allocator):
    """Prunes to `target_rank` a layer on average: nothing until step `warmup`, then by the cube of the time left,
    nothing new in the last `final` steps. Call `step()` after the optimiser's, before `zero_grad()`.

    `state_dict()` and `load_state_dict()`: with them a training that stopped goes on exactly."""

    def __init__(self, model, target_rank: int, steps: int, warmup=0, final=0, every=1, betas=(0.85, 0.85)):
        self.layers = layers(model)
        self.warmup, self.end, self.every = warmup, steps - final, every
        self.first, self.last = sum(a.rank for a in self.layers.values()), target_rank * len(self.layers)
        if self.warmup >= self.end:
            raise ValueError(f"{steps} steps leave none to prune in between warmup={warmup} and final={final}")
        if not 0 < self.last <= self.first:
            raise ValueError(f"target_rank={target_rank} must lie between 1 and the average rank of the layers")
        named = {f"{site}.{key}": p for site, a in self.layers.items() for key, p in a.own_state().items()}
        self.importance = Importance(named, betas)
        self.kept = {site: torch.ones_like(a.Lambda, dtype=torch.bool) for site, a in self.layers.items()}

    def budget(self, t: int) -> int:
        """How many triplets the whole model may have at step t."""
        left = 1 - (min(max(t, self.warmup), self.end) - self.warmup) / (self.end - self.warmup)
        return int((self.first - self.last) * left**3 + self.last)

    @torch.no_grad()
    def step(self) -> None:
        t, self.t = self.t, self.t + 1
        if t < self.end:
            self.importance.measure()
        choose = t == self.end or (self.warmup < t < self.end and t % self.every == 0)
        if choose and self.budget(t) < self.first:
            self.kept = self._best(self.budget(t))
        if choose or t > self.end:  # in between, a pruned triplet may come back
            for site, a in self.layers.items():
                a.Lambda.masked_fill_(~self.kept[site], 0)

    def _best(self, budget: int) -> dict[str, Tensor]:
        """The triplets above the worst ones that must go; ties go too."""
        s = self.importance.of
        score = {k: s(a.Lambda) + s(a.P).mean(0)[:, None] + s(a.Q).mean(1)[:, None] for k, a in self.layers.items()}
        worst = torch.cat(list(score.values())).flatten().kthvalue(self.first - budget).values
        return {k: v > worst for k, v in score.items()}

    def own(self) -> State:
        return {f"{site}.kept": kept for site, kept in self.kept.items()}

    def put(self, state: State) -> None:
        self.kept = {site: state[f"{site}.kept"].to(a.Lambda.device, copy=True) for site, a in self.layers.items()}
