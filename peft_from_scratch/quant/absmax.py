r"""Absmax quantisation: whole numbers and a scale.

    q = round(x / s),   s = max|x| / (2^(bits - 1) - 1)   over a row or a block;        x ≈ s q

Symmetric: zero stays zero, and the largest number of the block is exact. One outlier costs all the others of its block
their precision, which is why blocks are small. Dettmers et al. 2022, arXiv:2208.07339, §2, for rows of 8 bits.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from .blocks import in_blocks


def absmax_quantize(
    W: Float[Tensor, "*shape"], bits: int = 8, block: int | None = None
) -> tuple[Int8[Tensor, "*shape"], Float[Tensor, " scales"]]:
    """The whole numbers q, and max|x| of each row (`block` None) or of each block of the flattened tensor."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    rows = W.detach().flatten(0, -2).float() if block is None else in_blocks(W, block)
    absmax = rows.abs().amax(1)
    steps = 2 ** (bits - 1) - 1
    q = torch.round(rows * (steps / absmax.clamp_min(1e-38))[:, None]).to(torch.int8)  # a row of zeros stays zeros
    return q.flatten()[: W.numel()].view(W.shape), absmax


def absmax_dequantize(
    q: Int8[Tensor, "*shape"], absmax: Float[Tensor, " scales"], bits: int = 8, block: int | None = None
) -> Float[Tensor, "*shape"]:
    """s q, in float32."""
    rows = q.flatten(0, -2).float() if block is None else in_blocks(q, block)
    x = rows * (absmax / (2 ** (bits - 1) - 1))[:, None]
    return x.flatten()[: q.numel()].view(q.shape)
