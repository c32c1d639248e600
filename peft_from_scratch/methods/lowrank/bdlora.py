"""BD-LoRA: LoRA that tensor-parallel serving need not gather.  Wang et al. 2025, arXiv:2510.23346, section 3.

    y = W x + s B A x        A = diag(A_1 ... A_k) of blocks (r/k, d_in/k),  or  B = diag(B_1 ... B_k) of (d_out/k, r/k)

A layer whose inputs are split over k devices (o_proj, down_proj) takes a block-diagonal A, one whose outputs are split
(q_proj, k_proj, v_proj, gate_proj, up_proj) a block-diagonal B: each device then has all that its block needs.
The zeros are not stored. B = 0: starts as the base. Merges as LoRA.
A block starts as LoRA's A of its own size, U(±√(k/d_in)); Hugging Face peft 0.21.2 draws it √6 times as wide.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in // blocks + d_out) if diagonal == 'A' else rank * (d_in +
d_out // blocks). Merges: yes. peft: use_bdlora.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import is_linear, new_uniform, new_weight, weight_of
from .lora import LoRA, Start


class BDLoRA(LoRA):
    """LoRA with one of its matrices, `diagonal`, made of `blocks` blocks; it holds only these, one below the other."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        blocks: int = 2,
        diagonal: str = "B",
        dropout: float = 0.0,
        rslora: bool = False,
    ):
        if diagonal not in ("A", "B"):
            raise ValueError(f"diagonal is 'A' (split inputs) or 'B' (split outputs), not {diagonal!r}")
        if not is_linear(base):
            raise ValueError(f"BD-LoRA splits a vector's features: target Linear or Conv1D, not {type(base).__name__}")
        d_out, d_in = weight_of(base).shape
        side = d_in if diagonal == "A" else d_out
        if rank % blocks or side % blocks:
            sizes = [k for k in range(1, rank + 1) if rank % k == side % k == 0]
            raise ValueError(f"rank {rank} and {side} features do not divide into {blocks} blocks: use one of {sizes}")
        self.blocks, self.diagonal = blocks, diagonal
        super().__init__(base, rank, alpha, dropout, rslora, start=self.in_blocks)

    def in_blocks(self, base: nn.Module, rank: int, scale: float) -> Start:
        """A uniform with LoRA's width, B = 0, each of them dense or in blocks."""
        d_out, d_in = weight_of(base).shape
        columns = d_in // self.blocks if self.diagonal == "A" else d_in
        return Start(
            new_uniform(base, rank, columns),
            new_weight(base, d_out, rank // self.blocks if self.diagonal == "B" else rank),
        )

    def learned(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        x = x.to(self.A.dtype)
        Ax = self.blockwise(x, self.A) if self.diagonal == "A" else F.linear(x, self.A)
        BAx = self.blockwise(Ax, self.B) if self.diagonal == "B" else F.linear(Ax, self.B)
        return self.scale * BAx

    def blockwise(self, x: Float[Tensor, "... n"], M: Float[Tensor, "m c"]) -> Float[Tensor, "... m"]:
        """diag(M_1 ... M_k) x without the zeros."""
        parts = torch.einsum("...ki,koi->...ko", x.unflatten(-1, (self.blocks, -1)), M.unflatten(0, (self.blocks, -1)))
        return parts.flatten(-2)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        A = torch.block_diag(*self.A.chunk(self.blocks)) if self.diagonal == "A" else self.A
        B = torch.block_diag(*self.B.chunk(self.blocks)) if self.diagonal == "B" else self.B
        return self.scale * (B @ A)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, blocks={self.blocks}, diagonal={self.diagonal!r}"
