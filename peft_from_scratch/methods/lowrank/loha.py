"""LoHa: the elementwise product of two low-rank matrices.  Hyeon-Woo et al. 2021 (FedPara), arXiv:2108.06098.
As an adapter: Yeh et al. 2023 (LyCORIS), arXiv:2309.14859.

    y = W x + s (B1 A1) ⊙ (B2 A2) x        B1, B2: (d_out, r),  A1, A2: (r, d_in),  s = alpha / r

Two matrices of rank r have a product of rank up to r²: twice LoRA's numbers, r times its rank. A2 = 0: the layer starts
as it was.

    ((B1 A1) ⊙ (B2 A2)) = B A     column ij of B: B1[:, i] ⊙ B2[:, j],  row ij of A: A1[i] ⊙ A2[j]   (i, j = 1 ... r)

so it is a LoRA of rank r² whose factors are built from small ones; applied in that order where that costs less.
`tucker`: a convolution's two factors are r × r small kernels T with B and A on their channels (FedPara, Prop. 3).

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: 2 * rank * (d_in + d_out). Merges: yes. peft: LOHA.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_kaiming, new_weight, up, weight_of
from ..maths import full_change, tucker
from ..parts import Added, drop_outputs


class LoHa(Added):
    """`base` plus s (B1 A1) ⊙ (B2 A2)."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 8,
        rank_dropout: float = 0.0,
        module_dropout: float = 0.0,
        tucker: bool = False,
    ):
        super().__init__(base)
        if rank < 1 or alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, not rank={rank} and alpha={alpha}")
        d_out, d_in = weight_of(base).shape
        self.rank, self.alpha, self.scale = rank, alpha, alpha / rank
        self.rank_dropout, self.module_dropout = rank_dropout, module_dropout
        self.tucker = tucker and isinstance(base, nn.Conv2d) and base.kernel_size != (1, 1)
        self.cheap = not self.tucker and rank**2 * (d_in + d_out) < d_in * d_out
        inputs, kernel = (base.weight.shape[1], base.kernel_size) if self.tucker else (d_in, ())
        self.B1, self.A1 = new_kaiming(base, d_out, rank), new_kaiming(base, rank, inputs)
        self.B2, self.A2 = new_kaiming(base, d_out, rank), new_weight(base, rank, inputs)
        self.T1, self.T2 = (new_kaiming(base, rank, rank, *kernel) if kernel else None for _ in range(2))

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        if self.training and self.module_dropout and torch.rand(1) <= self.module_dropout:
            return y
        change = self.by_factors(x) if self.cheap else full_change(self.base, x, self.change())
        if self.training and self.rank_dropout:
            change = drop_outputs(self.base, change, self.rank_dropout, rescale=True)
        return y + change.to(y.dtype)

    def by_factors(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """s B A x with the r² columns of B and rows of A."""
        A = (self.A1[:, None] * self.A2).flatten(0, 1)
        B = (self.B1[:, :, None] * self.B2[:, None]).flatten(1)
        return up(self.base, down(self.base, x, A), self.scale * B)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return self.scale * tucker(self.B1, self.T1, self.A1) * tucker(self.B2, self.T2, self.A2)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}" + (", tucker=True" if self.tucker else "")
