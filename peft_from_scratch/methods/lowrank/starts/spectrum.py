"""What the starts share that decompose a matrix: its singular values, and A and B made of some of them."""

import torch
from jaxtyping import Float
from torch import Tensor

from ...maths import svd


def enough(W: Float[Tensor, "d_out d_in"], rank: int) -> Float[Tensor, "d_out d_in"]:
    """W to be decomposed, in float32 at least. ValueError where it has fewer than `rank` directions."""
    if rank > min(W.shape):
        raise ValueError(
            f"a {W.shape[0]} x {W.shape[1]} weight has {min(W.shape)} directions to start from: "
            f"use a rank up to {min(W.shape)}, not {rank}"
        )
    return W.detach().to(torch.promote_types(W.dtype, torch.float32))


def spectrum(
    W: Float[Tensor, "d_out d_in"], rank: int
) -> tuple[Float[Tensor, "d_out k"], Float[Tensor, " k"], Float[Tensor, "k d_in"]]:
    """U, singular values (largest first) and Vᵀ of a W that has at least `rank` of them."""
    return svd(enough(W, rank))


def balanced(
    U: Float[Tensor, "d_out rank"], S: Float[Tensor, " rank"], Vt: Float[Tensor, "rank d_in"], scale: float
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """A and B with scale B A = U diag(S) Vᵀ: each takes the root of the singular values."""
    root = (S / scale).sqrt()
    return root[:, None] * Vt, U * root
