"""APOLLO: SGD whose step length, channel by channel, is what Adam would take.
Zhu et al. 2024, arXiv:2412.05270, section 4.

    R = P G    G: (m, n), m < n (else Gᵀ),   P: (r, m) random, N(0, 1/r)    R̃ = M / (√V + ε), Adam on R: (r, n)
    W ← W - η √α G diag(s)             s_j = ‖R̃_j‖ / ‖R_j‖, for each column j (the larger side)

The direction is the raw gradient, only its scale is adaptive, and a random projection keeps lengths well enough for
that: no SVD, and P comes from a seed. Adam's states shrink to 2 n r numbers. APOLLO-Mini: r = 1 and one s for the whole
tensor. The norm of a step may grow by 1 % at most from one to the next. Trains everything.

    full(model);  optimizer = Apollo(groups(model, rank=256), lr=1e-2)              # adam.groups
    mini = Apollo(groups(model, rank=1, per="tensor", scale=128.0), lr=1e-2)

Kind: memory. On: every weight; matrices are projected. Trains: everything. Merges: yes.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from .adam import adam, decay
from .galore import check_rank
from .thrifty import Thrifty

GROWTH = 1.01  # the most by which the norm of a step may grow


class Apollo(Thrifty):
    """Adam; in groups that have a "rank", scaled gradients. `scale` is α, `per` "channel" or "tensor"."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        every: int = 200,
        scale: float = 1.0,
        per: str = "channel",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        seed: int = 0,
    ):
        settings = dict(lr=lr, every=every, scale=scale, per=per, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, settings | {"seed": seed})
        for group in self.param_groups:
            check_rank(group)
            if group["per"] not in ("channel", "tensor") or lr <= 0 or every < 1:
                raise ValueError(
                    f"per is 'channel' or 'tensor', lr above 0, every at least 1: not {group['per']!r}, ..."
                )
        for i, p in enumerate(p for group in self.param_groups for p in group["params"]):
            self.state[p]["seed"] = seed + i  # a projection of its own for each

    def update(self, p: Tensor, G: Tensor, state: dict, group: dict) -> None:
        direction, correction = self.direction(G, state, group)
        p.add_(direction.to(p.dtype), alpha=-group["lr"] * correction)
        decay(p, group)

    def direction(self, G: Tensor, state: dict, group: dict) -> tuple[Tensor, float]:
        """G, scaled as Adam would have scaled its projection, and Adam's bias correction."""
        if "rank" not in group:
            return adam(G, state, group["betas"], group["eps"])
        tall = G.shape[0] >= G.shape[1]
        g = G.float().T if tall else G.float()
        R = projection(group["rank"], len(g), state["seed"], state.get("step", 0) // group["every"]).to(g) @ g
        N, correction = adam(R, state, group["betas"], group["eps"])
        along = 0 if group["per"] == "channel" else None
        g = limited(
            g * (torch.linalg.vector_norm(N, dim=along) / (torch.linalg.vector_norm(R, dim=along) + 1e-8)), state
        )
        return math.sqrt(group["scale"]) * (g.T if tall else g), correction


def projection(rank: int, size: int, seed: int, period: int) -> Float[Tensor, "{rank} {size}"]:
    """P ~ N(0, 1/r), the same on every machine; another one in every period."""
    generator = torch.Generator().manual_seed(1000003 * seed + period)
    return torch.randn(rank, size, generator=generator) / math.sqrt(rank)


def limited(step: Float[Tensor, "m n"], state: dict) -> Float[Tensor, "m n"]:
    """The step, shortened where its norm has grown by more than GROWTH (from Fira, arXiv:2410.01623)."""
    norm = step.norm()
    if "norm" in state:
        shrink = (norm / (state["norm"] + 1e-8)).clamp_min(GROWTH) / GROWTH
        step, norm = step / shrink, norm / shrink
    state["norm"] = norm
    return step
