"""MTL-LoRA: what tasks share and what is their own, in one low-rank change.  Yang et al. 2024, arXiv:2410.09437,
section 3.

    y = W x + s B̄_t Λ_t A x      B̄_t = Σ_i ω_ti B_i,  ω_t = softmax(w_t / τ),  s = alpha / r      t: the row's task

A: (r, d_in) and the n up-projections B_i: (d_out, r) serve all tasks; Λ_t (a diagonal, or with `diagonal=False` a full
r by r matrix) and w_t: (n) are the task's own. B = 0: starts as the layer it wraps; A random, Λ_t = I, w random, since
with equal w all B_i would get the same gradient and stay one matrix for good (the `adapters` library starts w at 1).
Merges for one task: `with task_ids(model, t):`.

Kind: reparametrized. On: Linear, Conv1D, Embedding. Trains: rank * d_in + n_up * rank * d_out + n_tasks * (rank +
n_up). Merges: yes.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...layers import down, new_uniform, new_weight, weight_of, with_weight
from .tasks import PerTask


class MTLLoRA(PerTask):
    """`base` plus s B̄_t Λ_t A. Needs `with task_ids(model, ids):` around a forward pass."""

    def __init__(
        self,
        base: nn.Module,
        n_tasks: int,
        rank: int = 8,
        alpha: float = 16,
        n_up: int = 3,
        tau: float = 0.1,
        diagonal: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(base, n_tasks)
        if min(rank, n_up) < 1 or min(alpha, tau) <= 0:
            raise ValueError(f"rank and n_up must be at least 1, alpha and tau above 0: {rank}, {n_up}, {alpha}, {tau}")
        self.alpha, self.tau, self.scale = alpha, tau, alpha / rank
        d_out, d_in = weight_of(base).shape
        self.A = new_uniform(base, rank, d_in)
        self.B = new_weight(base, n_up, d_out, rank)
        self.w = new_uniform(base, n_tasks, n_up)
        identity = torch.ones(rank) if diagonal else torch.eye(rank)
        self.Lambda = nn.Parameter(new_weight(base, n_tasks, *identity.shape).detach() + identity.to(self.w))
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def upward(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows d_out rank"]:
        """B̄_t Λ_t of each row: both are small, so they are multiplied once a task and not once a token."""
        B = torch.einsum("tn,nor->tor", (self.w / self.tau).softmax(-1), self.B)
        BL = B * self.Lambda[:, None, :] if self.Lambda.dim() == 2 else B @ self.Lambda
        return BL[ids]

    def forward(self, x: Shaped[Tensor, "rows ..."]) -> Float[Tensor, "rows ... d_out"]:
        y = self.base(x)
        h = down(self.base, self.dropout(x), self.A)
        return y + (self.scale * torch.einsum("b...r,bor->b...o", h, self.upward(self.ids_of(x)))).to(y.dtype)

    def merged(self) -> nn.Module:
        change = self.scale * self.upward(self.only_id())[0] @ self.A
        return with_weight(self.base, weight_of(self.base) + change)

    def extra_repr(self) -> str:
        sizes = f"n_tasks={self.n_tasks}, rank={len(self.A)}, alpha={self.alpha:g}, n_up={len(self.B)}"
        return sizes + f", tau={self.tau:g}" + ("" if self.Lambda.dim() == 2 else ", diagonal=False")
