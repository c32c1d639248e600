"""HRA: turn the weights by a chain of reflections.  Yuan et al. 2024, arXiv:2405.17484, section 3.

    y = W H_1 H_2 ... H_r x + b        H_i = I - 2 u_i u_iᵀ / ‖u_i‖²,   U = (u_1, ..., u_r): (d_in, r)

A mirror twice is no mirror: u_1 = u_2, u_3 = u_4, ... start the layer as its base, up to rounding; with an odd rank the
last has no partner. `orthogonality` is the paper's penalty, to add to the loss.
With `orthogonal` the u_i are made orthonormal first (Gram-Schmidt, the penalty's limit): H = I - 2 U Uᵀ. Pairs would
have no orthonormal basis, so all u_i are drawn, and the layer does NOT start as its base: r directions start mirrored.

The chain equals I - V S⁻¹ Vᵀ (V: unit columns, S = I/2 + the part of VᵀV above the diagonal): two thin products.

Kind: reparametrized. On: Linear, Conv1D, Conv2d. Trains: rank * d_in. Merges: yes. peft: HRA.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import new_weight, weight_of
from .turned import Turned


class HRA(Turned):
    """`base` with its input mirrored `rank` times."""

    def __init__(self, base: nn.Module, rank: int = 8, orthogonal: bool = False):
        super().__init__(base)
        if isinstance(base, nn.Embedding):
            raise ValueError("the input of an embedding is a token's number, which HRA cannot mirror: use OFT there")
        d_in = weight_of(base).shape[1]
        if not 1 <= rank <= d_in:
            raise ValueError(f"rank must be from 1 to d_in={d_in}, not {rank}")
        self.rank, self.orthogonal = rank, orthogonal
        # peft 0.21.2 pairs them here too: Gram-Schmidt then divides by zero, NaN in some seeds
        U = new_weight(base, d_in, rank if orthogonal else math.ceil(rank / 2))
        nn.init.kaiming_uniform_(U, a=math.sqrt(5))
        self.U = U if orthogonal else nn.Parameter(U.detach().repeat_interleave(2, dim=1)[:, :rank].contiguous())

    def unit(self) -> Float[Tensor, "d_in rank"]:
        """V: the columns of U at length one; with `orthogonal` an orthonormal basis of what they span."""
        return torch.linalg.qr(self.U).Q if self.orthogonal else self.U / self.U.norm(dim=0)

    def thin(self) -> tuple[Float[Tensor, "d_in rank"], Float[Tensor, "rank d_in"]]:
        """V and Z = S⁻¹ Vᵀ, with H_1 ... H_r = I - V Z."""
        V = self.unit()
        S = (V.T @ V).triu(1) + torch.eye(self.rank, dtype=V.dtype, device=V.device) / 2
        return V, torch.linalg.solve_triangular(S, V.T, upper=True)

    def turn(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        V, Z = self.thin()
        rows = rows.to(V.dtype)
        return rows - rows @ Z.T @ V.T

    def turn_back(self, rows: Float[Tensor, "*n width"]) -> Float[Tensor, "*n width"]:
        V, Z = self.thin()
        rows = rows.to(V.dtype)
        return rows - rows @ V @ Z

    def extra_repr(self) -> str:
        return f"rank={self.rank}" + ", orthogonal=True" * self.orthogonal


def orthogonality(model: nn.Module) -> Float[Tensor, ""]:
    """The paper's regulariser: the sum over layers of ‖I - VᵀV‖²_F. Add λ times it to the loss."""
    units = [a.unit() for _, a in adapters(model) if isinstance(a, HRA)]
    if not units:
        raise ValueError("this model has no HRA adapter, so there is nothing to regularise")
    return sum((torch.eye(V.shape[1], dtype=V.dtype, device=V.device) - V.T @ V).square().sum() for V in units)
