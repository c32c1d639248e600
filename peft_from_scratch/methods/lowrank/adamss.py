"""AdaMSS: a small trained map for each cluster of a layer's outputs.  Zheng et al. 2025, openreview 8ZdWmpYxT0.

    [W b] ≈ U Σ V to rank R;  the rows of U are put into K clusters of outputs S_1 ... S_K
    y[S_k] = (W x + b)[S_k] + B_k A_k V [x; 1]     V: (R, d_in + 1) frozen;  A_k: (r_k, R);  B_k: (#S_k, r_k)

A_k starts as the cluster's own r_k main directions in U, B_k = 0: the layer starts as it was. r_k = min(r, #S_k).
Trains Σ_k r_k (R + #S_k) numbers a layer; `SubspaceAllocator` freezes the least important (A_k, B_k) on the way.
Merges, into the bias too. Without a bias: W alone, and x in place of [x; 1].

Kind: reparametrized. On: Linear, Conv1D. Trains: subspaces * min(rank, d_out, d_in + 1) + d_out. Merges: yes. peft:
ADAMSS.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import is_linear, weight_of, with_weight
from ..maths import k_means, top_svd
from ..parts import beside
from .importance import Allocator, Importance, State


class AdaMSS(Adapter):
    """`base` plus B_k A_k V [x; 1] for each cluster of outputs. `clusters`: a number for each output, not by k-means.
    `threshold` t: r_k counts only the cluster's singular values whose square is above t times the largest one's."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 100,
        subspaces: int = 5,
        subspace_rank: int = 1,
        clusters: Int[Tensor, " d_out"] | None = None,
        threshold: float = 0.0,
    ):
        super().__init__(base)
        if not is_linear(base):
            raise TypeError(f"AdaMSS clusters the outputs of a linear layer: a {type(base).__name__} cannot have it")
        if min(rank, subspaces, subspace_rank) < 1:
            raise ValueError(f"rank, subspaces and subspace_rank must be at least 1: {rank, subspaces, subspace_rank}")
        W = weight_of(base) if base.bias is None else torch.cat([weight_of(base), base.bias[:, None]], 1)
        U, _, V = top_svd(beside(base, W.detach()), min(rank, *W.shape))
        clusters = k_means(U, subspaces) if clusters is None else clusters.to(U.device)
        members = [(clusters == k).nonzero()[:, 0] for k in clusters.unique()]
        self.register_buffer("V", V)
        self.register_buffer("place", torch.cat(members).argsort())  # where each output is found in the clusters' order
        A = [main_directions(U[rows], subspace_rank, threshold) for rows in members]
        self.A = nn.ParameterList(A)
        self.B = nn.ParameterList(U.new_zeros(len(rows), len(a)) for rows, a in zip(members, A, strict=True))

    def factors(self) -> tuple[Float[Tensor, "inner R"], Float[Tensor, "d_out inner"]]:
        """The A_k stacked, and the B_k on the diagonal its rows in the outputs' order: cheaper than sorting them."""
        return torch.cat(list(self.A)), torch.block_diag(*self.B)[self.place]

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, d_in, (A, B) = self.base(x), weight_of(self.base).shape[1], self.factors()
        Vx = F.linear(x.to(self.V.dtype), self.V[:, :d_in], None if self.base.bias is None else self.V[:, d_in])
        return y + F.linear(F.linear(Vx, A), B).to(y.dtype)

    def merged(self) -> nn.Module:
        (A, B), d_in = self.factors(), weight_of(self.base).shape[1]
        BAV = B @ A @ self.V
        new = with_weight(self.base, weight_of(self.base) + BAV[:, :d_in])
        if new.bias is not None:
            new.bias = nn.Parameter((new.bias + BAV[:, d_in]).detach().to(new.bias.dtype), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return f"rank={len(self.V)}, subspaces={len(self.A)}, ranks={[len(a) for a in self.A]}"


def main_directions(U: Float[Tensor, "n R"], rank: int, threshold: float) -> nn.Parameter:
    """The first right singular vectors of a cluster's rows."""
    _, S, Vt = torch.linalg.svd(U, full_matrices=False)
    enough = max(1, int((S**2 > threshold * S[0] ** 2).sum())) if threshold else len(U)
    return nn.Parameter(Vt[: min(rank, enough, len(U))].contiguous())


class SubspaceAllocator(Allocator):
    """Freezes the (A_k, B_k) of a model down to `target` from step `start` to `end`, by the cube of the time left.
    Call `step()` after the optimiser's, before `zero_grad()`. Importance: AdaLoRA's, with Ū from the old Ī.

    `state_dict()` and `load_state_dict()`: with them a training that stopped goes on exactly."""

    def __init__(self, model, target: int, start=50, end=1000, every=100, betas=(0.85, 0.85), power: float = 3):
        found = {site: a for site, a in adapters(model) if isinstance(a, AdaMSS)}
        self.pairs = [pair for a in found.values() for pair in zip(a.A, a.B, strict=True)]
        if not 1 <= target <= len(self.pairs) or start >= end:
            raise ValueError(f"target must lie between 1 and the {len(self.pairs)} subspaces, and start before end")
        self.target, self.start, self.end, self.every, self.power = target, start, end, every, power
        named = {f"{site}.{k}": p for site, a in found.items() for k, p in a.own_state().items() if k[0] in "AB"}
        self.importance = Importance(named, betas, late=True)
        self.smooth = self.importance.smooth

    @torch.no_grad()
    def step(self) -> None:
        t, self.t = self.t, self.t + 1
        if not self.start <= t <= self.end:
            return
        self.importance.measure()
        if t % self.every == 0:
            left = 1 - (t - self.start) / (self.end - self.start)
            self.keep(int(self.target + (len(self.pairs) - self.target) * left**self.power))
            self.smooth.clear()

    def keep(self, n: int) -> None:
        """Freeze all but the n best of those that still train. (peft 0.21.2 keeps one fewer.)"""
        score = {
            pair: sum(self.importance.of(p).mean().item() for p in pair)
            for pair in self.pairs
            if all(p in self.smooth for p in pair)
        }
        for pair in sorted(score, key=score.get, reverse=True)[n:]:
            for p in pair:
                p.requires_grad_(False)
                p.grad = None

    def own(self) -> State:
        return {f"{name}.trains": torch.tensor(p.requires_grad) for name, p in self.importance.named.items()}

    def put(self, state: State) -> None:
        for name, p in self.importance.named.items():
            p.requires_grad_(bool(state[f"{name}.trains"]))
            p.grad = p.grad if p.requires_grad else None
