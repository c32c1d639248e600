"""LoKr: the Kronecker product of a small and a low-rank matrix.  Yeh et al. 2023 (LyCORIS), arXiv:2309.14859.

    y = W x + s (W1 ⊗ W2) x   W1: (m1, n1),  W2 = W2b W2a: (m2, r) (r, n2),  m1 m2 = d_out, n1 n2 = d_in, s = alpha / r

A block matrix: block ij is W1[i, j] W2; its rank is the product of the two ranks. Sizes: `factor` and what is left, or
the squarest pair. W2 is kept whole where r would not make it smaller, W1 is split too with `decompose_both`; s stays
alpha / r all the same. W1 = 0 (`zero="W2"`: the LyCORIS way): the layer starts as it was.

Without forming the product: x as an (n1, n2) matrix X, then W1 X W2ᵀ. A convolution's channels are split, and W2 keeps
the kernel (with `tucker`, as r × r small kernels between W2b and W2a).

Kind: reparametrized. On: Linear, Conv1D, Conv2d. Trains: factor**2 + rank * (d_in + d_out) // factor. Merges: yes.
peft: LOKR.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_kaiming, weight_of
from ..maths import factors, full_change, kronecker_times, tucker
from ..parts import Added, drop_outputs


class LoKr(Added):
    """`base` plus s W1 ⊗ W2."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 8,
        factor: int = -1,
        decompose_both: bool = False,
        zero: str = "W1",
        rank_dropout: float = 0.0,
        rescale: bool = False,
        module_dropout: float = 0.0,
        tucker: bool = False,
    ):
        super().__init__(base)
        if rank < 1 or alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, not rank={rank} and alpha={alpha}")
        if zero not in ("W1", "W2"):
            raise ValueError(f"zero must be 'W1' or 'W2', not {zero!r}: the factor that starts as zero")
        if isinstance(base, nn.Embedding):
            raise TypeError("LoKr multiplies its input, and an embedding looks it up: use LoRA or LoHa there")
        d_out, d_in = weight_of(base).shape
        conv = isinstance(base, nn.Conv2d)
        kernel = base.kernel_size if conv else (1, 1)
        m1, m2 = factors(d_out, factor)
        n1, n2 = factors(d_in // (kernel[0] * kernel[1]), factor)
        self.rank, self.alpha, self.scale, self.factor = rank, alpha, alpha / rank, factor
        self.rank_dropout, self.rescale, self.module_dropout = rank_dropout, rescale, module_dropout
        self.decompose_both = decompose_both
        split1, split2 = decompose_both and rank < max(m1, n1) / 2, rank < max(m2, n2) / 2
        tucker = tucker and kernel != (1, 1) and split2
        self.W1b, self.W1a = pair(base, m1, n1, rank if split1 else None)
        self.W2b, self.W2a = pair(base, m2, n2 if tucker else n2 * kernel[0] * kernel[1], rank if split2 else None)
        self.T = new_kaiming(base, rank, rank, *kernel) if tucker else None
        nn.init.zeros_(self.W1b if zero == "W1" else self.W2b if self.W2a is None else self.W2a)

    def W1(self) -> Float[Tensor, "m1 n1"]:
        return self.W1b if self.W1a is None else self.W1b @ self.W1a

    def W2(self) -> Float[Tensor, "m2 n2"]:
        return self.W2b if self.W2a is None else tucker(self.W2b, self.T, self.W2a)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        if self.training and self.module_dropout and torch.rand(1) <= self.module_dropout:
            return y
        if isinstance(self.base, nn.Conv2d):
            change = full_change(self.base, x, self.change())
        else:
            change = self.scale * kronecker_times(self.W1(), self.W2(), x.to(self.W1b.dtype))
        if self.training and self.rank_dropout:
            change = drop_outputs(self.base, change, self.rank_dropout, self.rescale)
        return y + change.to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return self.scale * torch.kron(self.W1(), self.W2())

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}, factor={self.factor}"


def pair(base: nn.Module, rows: int, columns: int, rank: int | None) -> tuple[nn.Parameter, nn.Parameter | None]:
    """The two factors of a random matrix, or the matrix itself and None."""
    if rank is None:
        return new_kaiming(base, rows, columns), None
    return new_kaiming(base, rows, rank), new_kaiming(base, rank, columns)
