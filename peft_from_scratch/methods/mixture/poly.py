"""Poly: each task mixes skills from one inventory of LoRAs.  Ponti et al. 2022, arXiv:2202.13914, section 2.

    y = W x + (1/r) B̄ Ā x       Ā = Σ_s α_ts A_s: (r, d_in),  B̄ = Σ_s α_ts B_s: (d_out, r)      t: the task of the row

α_t = z / Σ z, one number a skill. In training z is a relaxed coin σ(Z_t + noise) (RelaxedBernoulli, temperature 1),
which pushes it towards 0 or 1; in evaluation z = σ(Z_t). With n_splits > 1 the inputs of A and the outputs of B fall
into so many blocks, each with an α of its own: Multi-Head Routing, Caccia et al. 2022, arXiv:2211.03831, section 3.

A random, B = 0: starts as the layer it wraps. Z = ±0.001: all skills have nearly the same part in every task.
Merges for one task: `with task_ids(model, t):`.
Mixing the matrices first costs skills r (d_in + d_out) products a row, not a token: one LoRA's work is left.

Kind: reparametrized. On: Linear, Conv1D. Trains: n_skills * rank * (d_in + d_out) + n_tasks * n_splits * n_skills.
Merges: yes. peft: POLY.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...layers import new_weight, weight_of, with_weight
from .tasks import PerTask


class Poly(PerTask):
    """`base` plus the mean of its task's skills. Needs `with task_ids(model, ids):` around a forward pass."""

    def __init__(self, base: nn.Module, n_tasks: int, rank: int = 8, n_skills: int = 4, n_splits: int = 1):
        super().__init__(base, n_tasks)
        if isinstance(base, nn.Embedding):
            raise TypeError("Poly mixes whole matrices a row, and a look-up reads single columns: target linear layers")
        d_out, d_in = weight_of(base).shape
        if rank < 1 or n_skills < 1:
            raise ValueError(f"rank and n_skills must be at least 1, not {rank} and {n_skills}")
        if n_splits < 1 or d_in % n_splits or d_out % n_splits:
            fits = [n for n in range(1, math.gcd(d_in, d_out) + 1) if math.gcd(d_in, d_out) % n == 0]
            raise ValueError(f"n_splits={n_splits} must divide {d_in} inputs and {d_out} outputs: {fits} would")
        self.rank, self.n_skills, self.n_splits = rank, n_skills, n_splits
        bound = 1 / math.sqrt(d_in // n_splits)
        self.A = nn.init.uniform_(new_weight(base, n_splits, n_skills, rank, d_in // n_splits), -bound, bound)
        self.B = new_weight(base, n_splits, n_skills, d_out // n_splits, rank)
        self.Z = nn.init.uniform_(new_weight(base, n_tasks, n_splits, n_skills), -1e-3, 1e-3)

    def shares(self, ids: Int[Tensor, " rows"], sample: bool) -> Float[Tensor, "rows splits skills"]:
        """α: how much of each skill a row gets."""
        logits = self.Z[ids]
        if sample:  # logistic noise makes σ a coin with P(heads) = σ(Z), softened
            eps = torch.finfo(logits.dtype).eps
            u = torch.rand_like(logits).clamp(eps, 1 - eps)
            logits = logits + u.log() - (-u).log1p()
        z = logits.sigmoid()
        return z / (z.sum(-1, keepdim=True) + 1e-12)

    def mixed(
        self, ids: Int[Tensor, " rows"], sample: bool = False
    ) -> tuple[Float[Tensor, "rows rank d_in"], Float[Tensor, "rows d_out rank"]]:
        """Ā and B̄ of each row."""
        alpha = self.shares(ids, sample)
        A = torch.einsum("bqs,qsrd->brqd", alpha, self.A).flatten(2)
        return A, torch.einsum("bqs,qsdr->bqdr", alpha, self.B).flatten(1, 2)

    def forward(self, x: Float[Tensor, "rows ... d_in"]) -> Float[Tensor, "rows ... d_out"]:
        y = self.base(x)
        A, B = self.mixed(self.ids_of(x), self.training)
        h = torch.einsum("b...i,bri->b...r", x.to(A.dtype), A)
        return y + (torch.einsum("b...r,bor->b...o", h, B) / self.rank).to(y.dtype)

    def merged(self) -> nn.Module:
        A, B = self.mixed(self.only_id())
        return with_weight(self.base, weight_of(self.base) + (B @ A)[0] / self.rank)

    def extra_repr(self) -> str:
        return f"n_tasks={self.n_tasks}, rank={self.rank}, n_skills={self.n_skills}, n_splits={self.n_splits}"
