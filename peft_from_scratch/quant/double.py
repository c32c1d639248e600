r"""Double quantisation: the constants of the blocks are quantised too.  Dettmers et al. 2023, arXiv:2305.14314, §3.

    absmax_b ≈ code8[i_b] · absmax2_B + mean(absmax)        i_b: 8 bits a block,  absmax2_B: float32 for 256 blocks

The mean comes off first, since absmax is positive and a code is symmetric.
With blocks of 64: 32/64 = 0.5 bits a weight become 8/64 + 32/(64 · 256) = 0.127.

Method: NF4 with double quantisation. Paper: Dettmers et al. 2023, arXiv:2305.14314 §3. Kind: memory. On: Linear,
Conv1D. Trains: 0. Merges: no.
"""

from jaxtyping import Float, UInt8
from torch import Tensor

from .blocks import scaled
from .codes import dynamic8, nearest

BLOCK = 256


def quantize_constants(
    absmax: Float[Tensor, " blocks"],
) -> tuple[UInt8[Tensor, " blocks"], Float[Tensor, " superblocks"], Float[Tensor, ""]]:
    """The 8-bit indices, absmax2 and the mean."""
    offset = absmax.mean()
    x, absmax2 = scaled(absmax - offset, BLOCK)
    return nearest(x, dynamic8()).view(-1)[: len(absmax)], absmax2, offset


def dequantize_constants(
    index: UInt8[Tensor, " blocks"],
    absmax2: Float[Tensor, " superblocks"],
    offset: Float[Tensor, ""],
    code8: Float[Tensor, "256"],
) -> Float[Tensor, " blocks"]:
    """absmax again, in float32; `code8` is `dynamic8()`."""
    absmax = code8[index.int()] * absmax2.repeat_interleave(BLOCK)[: len(index)] + offset
    return absmax.as_strided(absmax.shape, (1,))  # itself: it keeps a compiler from doing this anew for every weight
