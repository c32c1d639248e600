"""ADAMSS, whose files leave out which output is in which cluster: peft finds the clusters again in the base's weight.

So does this page, as peft does it on the CPU; what decides is the base, its seed and k-means with a seed of its own.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import weight_of
from ...methods.lowrank.adamss import AdaMSS
from ...targets import Factory
from ..kind import Kind, Link, Links


def factory(config: dict) -> Factory:
    K, seed = config["num_subspaces"], config["random_seed"]
    threshold = config["svd_threshold"] if config["use_dynamic_rank"] else 0.0

    def make(base: nn.Module) -> AdaMSS:
        clusters = found_again(base, config["r"], K, seed)
        made = AdaMSS(base, config["r"], K, config["subspace_rank"], clusters, threshold)
        made.random_seed = seed
        return made

    return make


def found_again(base: nn.Module, rank: int, k: int, seed: int) -> Int[Tensor, " d_out"]:
    """The cluster of each output, as peft 0.21.2 finds it: k-means on the left singular vectors."""
    W = weight_of(base) if base.bias is None else torch.cat([weight_of(base), base.bias[:, None]], 1)
    if W.is_meta:
        raise ValueError(
            "ADAMSS: the sizes of its tensors follow from the base's weights, and the meta device has none"
        )
    if rank >= len(W) <= W.shape[1]:
        raise ValueError(
            f"ADAMSS: with r={rank} for {len(W)} outputs all are equally far apart, and rounding alone makes the "
            "clusters, so that nobody can find them again: take a smaller r"
        )
    with torch.random.fork_rng(devices=[]):  # the library's SVD draws its start from the global generator
        torch.manual_seed(seed)
        U, _, _ = torch.svd_lowrank(W.detach().float().cpu(), q=min(rank, *W.shape), niter=2)
    return torch.from_numpy(k_means(U.numpy(), min(k, len(U))))


def k_means(X: Float[np.ndarray, "n d"], k: int, steps: int = 10) -> Int[np.ndarray, " n"]:
    """Scikit-learn's, with the draw and the seed that peft gives it: a checkpoint holds no other trace of them."""
    weight = np.full(len(X), np.float32(1) / np.float32(len(X)), np.float32)
    start = np.random.RandomState(123456789).choice(len(X), k, replace=False, p=weight)
    X = X - X.mean(0)
    centres, enough, before = X[start], X.var(0).mean() * 1e-4, None
    for _ in range(steps):
        labels = nearest(X, centres)
        sizes = np.bincount(labels, minlength=k)
        if not sizes.all():
            raise ValueError(f"ADAMSS: one of {k} clusters is empty, which peft fills in its own way: take fewer")
        old, centres = centres, (np.eye(k, dtype=X.dtype)[labels].T @ X) / sizes[:, None].astype(X.dtype)
        if before is not None and (labels == before).all():
            return labels
        if ((centres - old) ** 2).sum() <= enough:
            break
        before = labels
    return nearest(X, centres)


def nearest(X: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]) -> Int[np.ndarray, " n"]:
    return ((centres**2).sum(1) - 2 * X @ centres.T).argmin(1)


def clusters_of(a: AdaMSS) -> Int[Tensor, " d_out"]:
    """The cluster of each output of an adapter."""
    sizes = torch.tensor([len(b) for b in a.B], device=a.place.device)
    return torch.arange(len(a.B), device=a.place.device).repeat_interleave(sizes)[a.place]


def tensors(a: AdaMSS) -> Links:
    links = {"adamss_newB": Link(a.V)}
    for letter, parts in (("A", a.A), ("B", a.B)):
        links |= {f"adamss_{letter}.{k}": Link(p) for k, p in enumerate(parts)}
    return links


def as_ranked(config: dict, made: dict[str, Adapter], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A_k and B_k get the ranks that they have in the file: these may follow from singular values near a threshold."""
    for site, a in made.items():
        for k, (A, B) in enumerate(zip(a.A, a.B, strict=True)):
            file = state.get(f"base_model.model.{site}.adamss_A.{k}")
            if file is not None and file.ndim == 2 and len(file) != len(A):
                A.data, B.data = A.new_zeros(len(file), A.shape[1]), B.new_zeros(len(B), len(file))
    return state


def settings(a: AdaMSS) -> dict:
    ranks = [len(part) for part in a.A]
    seed = getattr(a, "random_seed", 0)
    return {"r": len(a.V), "num_subspaces": len(ranks), "subspace_rank": max(ranks), "random_seed": seed}


def other_clusters(model: nn.Module, made: dict[str, Adapter]) -> str:
    for site, a in made.items():
        given = settings(a)
        again = found_again(a.base, given["r"], given["num_subspaces"], given["random_seed"])
        if not torch.equal(again, clusters_of(a).cpu()):
            return f"finds other clusters in the weight of {site}: inject with from_peft_config to have peft's"
    return ""


ADAMSS = Kind(
    "ADAMSS",
    (AdaMSS,),
    {
        "r": 100, "num_subspaces": 5, "subspace_rank": 1, "use_dynamic_rank": False, "svd_threshold": 0.1,
        "random_seed": 0,
    },
    tensors,
    settings,
    factory,
    normal=as_ranked,
    differs=other_clusters,
    harmless=(
        "init_weights", "use_asa", "asa_target_subspaces", "init_warmup", "final_warmup", "mask_interval",
        "asa_importance_beta", "asa_uncertainty_beta", "asa_schedule_exponent",
    ),
)  # fmt: skip

KINDS = (ADAMSS,)
