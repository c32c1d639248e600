"""Lily: layers share their As with neighbours and their Bs with all, and a router joins them.
Zhong, Zhao and Zhou 2024, arXiv:2407.09946, section 3.

    y = W x + s B̄ h      h = A x,   B̄ = Σ_e π_e B_e: (d_out, r),   π = mean over all tokens of softmax(R h)

A: (r, d_in) serves `stride` layers in a row, the n_experts B_e: (d_out, r) serve all layers of one name and shape, and
R: (n_experts, r) is the layer's own. B = 0: starts as the layer it wraps; a random R lets the B_e part company.
Trains r d_in / stride + n_experts r numbers a layer, and n_experts r d_out for all of them. Does not merge: B̄ depends
on the data. The mean is over the batch, as in the authors' code and peft: what a text gives depends on the texts and
the padding beside it, and with a cache on how many tokens come at a time.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * d_in + n_experts * rank * (d_out + 1).
Merges: no. peft: LILY.
"""

import re

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_uniform, new_weight, up, weight_of
from ...targets import ALL_LINEAR, Factory
from ..parts import SAME_SITES, Sites
from .named import named_layers


class Projector(nn.Module):
    """An A or the experts B, in every adapter that shares it."""

    def __init__(self, value: nn.Parameter):
        super().__init__()
        self.value = value


def new_A(layer: nn.Module, rank: int) -> Projector:
    d_in = weight_of(layer).shape[1]
    return Projector(new_uniform(layer, rank, d_in))


def new_B(layer: nn.Module, rank: int, n_experts: int) -> Projector:
    return Projector(new_weight(layer, n_experts, len(weight_of(layer)), rank))


def shared(
    model: nn.Module, sites: Sites, rank: int = 32, n_experts: int = 2, stride: int = 1, scale: float = 1.0
) -> Factory:
    """What `inject(model, {sites: ...})` needs. A pattern of `sites` is one family (for all-linear: the last word of a
    name); the layers of a family with the same shape share the B_e, and each `stride` of them an A."""
    if stride < 1:
        raise ValueError(f"stride must be at least 1, not {stride}")
    families: dict[tuple, list[nn.Module]] = {}
    for site, layer in named_layers(model, sites).items():
        families.setdefault((family(site, sites), *weight_of(layer).shape), []).append(layer)
    made = {}
    for layers in families.values():
        B = new_B(layers[0], rank, n_experts)
        for i, layer in enumerate(layers):
            A = new_A(layer, rank) if i % stride == 0 else A
            made[layer] = A, B

    def factory(base: nn.Module) -> Lily:
        if base not in made:
            raise ValueError(f"this {type(base).__name__} is not among the layers that share: {SAME_SITES}")
        return Lily(base, rank, n_experts, scale, *made[base])

    return factory


def family(site: str, sites: Sites) -> str:
    """The pattern that names the site."""
    patterns = [p for p in ((sites,) if isinstance(sites, str) else sites) if p != ALL_LINEAR]
    return next((p for p in patterns if re.fullmatch(p, site)), site.rsplit(".")[-1])


class Lily(Adapter):
    """`base` plus s B̄ A, with A and the B_e of its family (see `shared`) or its own."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 32,
        n_experts: int = 2,
        scale: float = 1.0,
        A: Projector | None = None,
        B: Projector | None = None,
    ):
        super().__init__(base)
        if rank < 1 or n_experts < 2:
            raise ValueError(
                f"rank must be at least 1, and a router needs 2 experts at least, not {rank} and {n_experts}"
            )
        self.rank, self.scale = rank, scale
        self.A = new_A(base, rank) if A is None else A
        self.B = new_B(base, rank, n_experts) if B is None else B
        self.R = new_uniform(base, n_experts, rank)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        h = down(self.base, x, self.A.value)
        B = torch.einsum("e,eor->or", self.shares(h), self.B.value)  # mixed first: one B a batch, not a token
        return y + (self.scale * up(self.base, h, B)).to(y.dtype)

    def shares(self, h: Float[Tensor, "..."]) -> Float[Tensor, " experts"]:
        """π, of all tokens of the batch together."""
        if isinstance(self.base, nn.Conv2d):  # its tokens are the places of an image, its groups see the same A
            h = h.unflatten(1, (-1, self.rank)).movedim(2, -1)
        return (h @ self.R.T).softmax(-1).flatten(0, -2).mean(0)

    def merged(self) -> nn.Module:
        raise NotImplementedError("Lily's B depends on the data that it meets: it cannot be merged")

    def extra_repr(self) -> str:
        return f"rank={self.rank}, n_experts={len(self.R)}, scale={self.scale:g}"
