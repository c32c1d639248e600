"""RandLoRA: a change of full rank from random matrices and trained diagonals.  Albert et al. 2025, arXiv:2502.00987,
section 4.

    y = W x + s Σ_j B_j Λ_j A Γ_j x     j = 1 ... N,  N = ⌈d_in / r⌉,  s = alpha / r
    B_j: (d_out, r), A: (r, d_in) frozen, random, shared;  Λ_j = diag(r numbers), Γ_j = diag(d_in numbers)

N terms of rank r reach full rank, where VeRA has one. A and Γ stand on the smaller side: where d_out is smaller, the
change is that of the transposed layer. One A and one set of B_j, of the largest sizes in the model and each divided by
its standard deviation, serve all layers. Λ = 0: the layer starts as it was; Γ starts constant.
The N terms are one product: the B_j side by side times the Λ_j A Γ_j stacked.

Kind: reparametrized. On: Linear, Conv1D, Embedding. Trains: math.ceil(min(d_in, d_out) / rank) * (rank + min(d_in,
d_out)). Merges: yes. peft: RANDLORA.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from ...targets import Factory
from ..parts import SAME_SITES, Sites, beside, layers_at


class Bases(nn.Module):
    """The frozen A: (r, smaller side) and B: (larger side, N, r) that serve all `layers`. `saved`: part of the state.

    `dtype`: peft draws in bfloat16, which has other numbers. `sparsity` t: ±1 with probability 1 / 2t each, else 0.
    """

    def __init__(
        self, layers: list[nn.Module], rank: int, seed: int, dtype: torch.dtype, sparsity: float | None, saved: bool
    ):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        small, large = sorted(max(sizes) for sizes in zip(*(weight_of(m).shape for m in layers), strict=True))
        generator = torch.Generator().manual_seed(seed)
        n = math.ceil(small / rank)
        if sparsity is None:
            A, *B = (
                nn.init.kaiming_uniform_(torch.empty(s, dtype=dtype, device="cpu"), a=5**0.5, generator=generator)
                for s in [(rank, 1, small)] + n * [(large, 1, rank)]
            )
            A, B = A[:, 0], torch.cat(B, 1)
        else:
            A, B = (
                signs(torch.rand(s, generator=generator, device="cpu"), sparsity)
                for s in ((rank, small), (large, n, rank))
            )
        self.register_buffer("A", beside(layers[0], A / A.std()), persistent=saved)
        self.register_buffer("B", beside(layers[0], B / B.std()), persistent=saved)
        self.drawn = f"seed={seed}, dtype={dtype}, sparsity={sparsity}"


def signs(u: Float[Tensor, "..."], sparsity: float) -> Float[Tensor, "..."]:
    """-1, 0 and 1 from uniform numbers (Achlioptas 2003)."""
    return (u > 1 - 1 / (2 * sparsity)).float() - (u < 1 / (2 * sparsity)).float()


def shared(
    model: nn.Module,
    sites: Sites,
    rank: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    sparsity: float | None = None,
    saved: bool = False,
    **settings,
) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of RandLoRA adapters around one set of bases."""
    bases = Bases(layers_at(model, sites), rank, seed, dtype, sparsity, saved)
    return lambda base: RandLoRA(base, bases, **settings)


class RandLoRA(Adapter):
    """`base` plus s Σ_j B_j Λ_j A Γ_j with the `bases` of its set: see `shared`."""

    def __init__(
        self, base: nn.Module, bases: Bases, alpha: float = 640, dropout: float = 0.0, peft_order: bool = False
    ):
        super().__init__(base)
        if isinstance(base, nn.Conv2d):
            raise TypeError("RandLoRA cuts A to a layer's inputs, and a convolution's are patches: target other layers")
        (d_out, d_in), rank = weight_of(base).shape, len(bases.A)
        small = min(d_out, d_in)
        if small > bases.A.shape[1] or max(d_out, d_in) > len(bases.B):
            raise ValueError(f"the shared bases are too small for a layer of shape {(d_out, d_in)}: {SAME_SITES}")
        n = math.ceil(small / rank)
        self.alpha, self.scale, self.bases, self.peft_order = alpha, alpha / rank, bases, peft_order
        self.Lambda = new_weight(base, rank, n)
        self.Gamma = nn.init.constant_(new_weight(base, n, small), 1 / max(n, small))
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def factors(self) -> tuple[Float[Tensor, "inner d_in"], Float[Tensor, "d_out inner"]]:
        """What is applied first and second: the stacked Λ_j A Γ_j and the B_j, or both transposed."""
        (d_out, d_in), (n, small) = weight_of(self.base).shape, self.Gamma.shape
        A = (self.Lambda[:, :, None] * self.bases.A[:, None, :small] * self.Gamma).flatten(0, 1)
        B = self.bases.B[: max(d_out, d_in), :n]
        if not self.peft_order:  # peft lists A's rows by rank and then j, but B's columns by j and then rank
            B = B.mT
        B = B.flatten(1)
        return (A, B) if small == d_in else (B.mT, A.mT)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, (first, second) = self.base(x), self.factors()
        change = up(self.base, down(self.base, self.dropout(x), first), second)
        return y + (self.scale * change).to(y.dtype)

    def merged(self) -> nn.Module:
        first, second = self.factors()
        return with_weight(self.base, weight_of(self.base) + self.scale * second @ first)

    def extra_repr(self) -> str:
        order = ", peft_order=True" if self.peft_order else ""
        return f"rank={len(self.bases.A)}, alpha={self.alpha:g}, {self.bases.drawn}{order}"
