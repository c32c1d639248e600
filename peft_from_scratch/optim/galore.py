"""GaLore: Adam in a small subspace that the gradient itself chooses.  Zhao et al. 2024, arXiv:2403.03507, section 4.

    G: (m, n) with m ≥ n:   R = G P,  P: (n, r)        M, V and N = M / (√V + ε) of shape (m, r)        W ← W - η α N Pᵀ
    with m < n:             R = Pᵀ G, P: (m, r)                                          (r, n)         W ← W - η α P N

P: the first r singular vectors of G, on its smaller side, found anew every T steps; M and V go on across that, although
they belong to the old P. All weights train, in full rank over time; Adam's copies shrink from 2 m n to 2 max(m, n) r
numbers, plus P. Trains everything; what is saved is the model.

    full(model);  optimizer = GaLore(groups(model, rank=128), lr=1e-3)           # adam.groups
    InBackward(groups(model, rank=128), lambda g: GaLore(g, lr=1e-3))            # gradients freed at once: in_backward

Kind: memory. On: every weight; matrices are projected. Trains: everything. Merges: yes.
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from ..methods.maths import svd
from .adam import adam, decay
from .thrifty import Thrifty


class GaLore(Thrifty):
    """Adam, in groups that have a "rank" within a subspace of that rank, renewed every `every` steps; `scale` is α."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        every: int = 200,
        scale: float = 0.25,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        if lr <= 0 or every < 1:
            raise ValueError(f"lr must be above 0 and every at least 1, not {lr} and {every}")
        super().__init__(params, dict(lr=lr, every=every, scale=scale, betas=betas, eps=eps, weight_decay=weight_decay))
        for group in self.param_groups:
            check_rank(group)

    def update(self, p: Tensor, G: Tensor, state: dict, group: dict) -> None:
        p.add_(self.direction(G, state, group).to(p.dtype), alpha=-group["lr"])
        decay(p, group)

    def direction(self, G: Tensor, state: dict, group: dict) -> Tensor:
        """Adam's, found in the subspace, in the shape of G."""
        if "rank" not in group:
            N, correction = adam(G, state, group["betas"], group["eps"])
            return N * correction
        if state.get("step", 0) % group["every"] == 0:
            state["P"] = subspace(G, group["rank"])
        P, tall = state["P"].to(G.dtype), G.shape[0] >= G.shape[1]
        N, correction = adam(G @ P if tall else P.T @ G, state, group["betas"], group["eps"])
        N, P = N * (correction * group["scale"]), P.to(N.dtype)
        return N @ P.T if tall else P @ N


def subspace(G: Float[Tensor, "m n"], rank: int) -> Float[Tensor, "k rank"]:
    """P: the first singular vectors on the smaller side."""
    U, _, Vt = svd(G)
    return (Vt[:rank].T if G.shape[0] >= G.shape[1] else U[:, :rank]).contiguous()


def check_rank(group: dict) -> None:
    """ValueError where a group's rank does not fit its matrices."""
    if "rank" not in group:
        return
    for p in group["params"]:
        if p.dim() != 2 or not 1 <= group["rank"] <= min(p.shape):
            raise ValueError(f"rank {group['rank']} needs matrices of at least that size, not {tuple(p.shape)}")
