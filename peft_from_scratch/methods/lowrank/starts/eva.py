"""EVA: start LoRA on the directions in which the data varies.  Paischer et al. 2024, arXiv:2410.07170, section 3.

    A = the r directions of the layer's inputs with the most variance,  B = 0        A: (r, d_in) orthonormal rows

They are the principal components of the inputs. Ranks follow the data too: of the budget of rank x layers, each goes to
the component that explains the next largest share of its layer's variance, up to rho x rank a layer; a layer may get
none, and is then left alone. alpha follows the rank, so that alpha / r is the same everywhere.
B = 0: starts as the base. Trains the same total as LoRA of that rank, where the layers are alike; merges as LoRA.

    model = inject(model, eva(model, "all-linear", batches, rank=8))

The components come exactly from the covariance of all batches (d_in x d_in a layer); Hugging Face peft and the authors
follow them batch by batch with an incremental, randomised SVD until they settle.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in + d_out). Merges: yes. peft: init_lora_weights='eva'.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....adapter import plain, sites
from ....layers import new_weight, weight_of
from ...parts import Sites
from ..lora import LoRA, Start
from .collect import Batch, attended, each_input


class Moments:
    """Running count, mean and scatter of vectors, to be centred at the end (in float64, where that loses nothing)."""

    def __init__(self):
        self.n, self.total, self.outer = 0, 0, 0

    def add(self, x: Float[Tensor, "tokens d_in"]) -> None:
        x = x.double()
        self.n, self.total, self.outer = self.n + len(x), self.total + x.sum(0), self.outer + x.T @ x

    def components(self, k: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d_in"]]:
        """The k largest shares of the variance that a principal component explains, and these components."""
        scatter = self.outer - torch.outer(self.total, self.total) / self.n
        values, vectors = torch.linalg.eigh(scatter)
        values = values.flip(0).clamp_min(0)
        return values[:k] / values.sum(), vectors.T.flip(0)[:k].clone()


def eva(
    model: nn.Module,
    patterns: Sites,
    batches: Iterable[Batch],
    rank: int = 8,
    alpha: float = 16,
    rho: float = 2.0,
    keep: Callable[[Batch], Tensor | None] = attended,
    **settings,
) -> dict[str, Callable]:
    """Targets for `inject`: LoRA with its own rank and start at each layer that gets a rank."""
    if rho < 1:
        raise ValueError(f"rho is the largest rank over the mean rank: at least 1, not {rho}")
    seen: dict[nn.Module, Moments] = {}
    each_input(model, patterns, batches, lambda layer, x: seen.setdefault(layer, Moments()).add(x), keep)
    found = {layer: moments.components(round(rho * rank)) for layer, moments in seen.items()}
    ranks = shared_ranks({layer: share for layer, (share, _) in found.items()}, rank)
    names = {plain(module): site for site, module in reversed(list(sites(model)))}
    return {
        re.escape(names[layer]): partial(
            LoRA, rank=r, alpha=alpha * r / rank, start=along(found[layer][1][:r]), **settings
        )
        for layer, r in ranks.items()
        if r
    }


def shared_ranks(shares: dict[nn.Module, Float[Tensor, "..."]], rank: int) -> dict[nn.Module, int]:
    """How many of the rank x layers largest shares each layer has."""
    ranked = sorted(((s, layer) for layer, share in shares.items() for s in share.tolist()), key=lambda t: -t[0])
    chosen = [layer for _, layer in ranked[: rank * len(shares)]]
    return {layer: chosen.count(layer) for layer in shares}


def along(directions: Float[Tensor, "r d_in"]) -> Callable[[nn.Module, int, float], Start]:
    """The start A = `directions`, B = 0."""

    def start(base: nn.Module, rank: int, scale: float) -> Start:
        B = new_weight(base, weight_of(base).shape[0], rank)
        return Start(directions.to(B).clone(), B)

    return start
