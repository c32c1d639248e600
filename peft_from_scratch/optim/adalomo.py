"""AdaLomo: LOMO with Adam's adaptive steps, from two vectors a matrix.  Lv et al. 2023, arXiv:2310.10195, section 3.2.

    r ← β r + (1 - β) mean_n g²,  c ← β c + (1 - β) mean_m g²       V ≈ r cᵀ / mean(r)       β = 1 - t^(-0.8)
    u = g / √V,   W ← W - η max(ε, RMS(W)) u / max(1, RMS(u))

Two vectors (m) and (n) stand for Adam's V of shape (m, n), as in Adafactor; a vector keeps a V of its own. Each weight
is moved by a share of its own size, so that no global gradient norm is needed.

    optimizer = InBackward(trained(model).values(), lambda group: AdaLomo(group, lr=5e-4));   loss.backward()

Kind: memory. On: every weight. Trains: everything. Merges: yes.
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from .thrifty import Thrifty


class AdaLomo(Thrifty):
    """Factored second moments and steps relative to the weight; meant for `InBackward`, works without it."""

    def __init__(
        self, params: Iterable, lr: float = 5e-4, eps: float = 1e-3, threshold: float = 1.0, weight_decay: float = 0.0
    ):
        if lr <= 0:
            raise ValueError(f"lr must be above 0, and is {lr}")
        super().__init__(params, dict(lr=lr, eps=eps, threshold=threshold, weight_decay=weight_decay))

    def update(self, p: Tensor, G: Tensor, state: dict, group: dict) -> None:
        state["step"] = t = state.get("step", 0) + 1
        g, beta = G.float(), 1 - t**-0.8
        u = g * inverse_root(g.square() + 1e-30, state, beta)
        u = u / (rms(u) / group["threshold"]).clamp_min(1)
        W = p.float()
        rate = group["lr"] * rms(W).clamp_min(group["eps"])  # a share of the weight's own size
        p.copy_(W * (1 - rate * group["weight_decay"]) - rate * u)


def inverse_root(square: Float[Tensor, "*shape"], state: dict, beta: float) -> Float[Tensor, "*shape"]:
    """1 / √V after these squared gradients: r cᵀ / mean(r) for a matrix, V itself for a vector."""
    if square.dim() < 2:
        return moving(state, "V", square, beta).rsqrt()
    r, c = moving(state, "r", square.mean(-1), beta), moving(state, "c", square.mean(-2), beta)
    return (r / r.mean(-1, keepdim=True)).rsqrt()[..., None] * c.rsqrt()[..., None, :]


def moving(state: dict, key: str, new: Tensor, beta: float) -> Tensor:
    """The moving average called `key`, with `new` in it."""
    state[key] = new * (1 - beta) + state[key] * beta if key in state else new * (1 - beta)
    return state[key]


def rms(t: Tensor) -> Tensor:
    """Root of the mean square."""
    return t.square().mean().sqrt()
