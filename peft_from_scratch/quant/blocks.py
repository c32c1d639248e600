"""Blockwise 4-bit quantisation: a code's 16 values, and a scale a block.  Dettmers et al. 2023, arXiv:2305.14314, §2.

    W ≈ absmax_b · code[i]        i: 4 bits a weight,  absmax_b: the largest |w| of block b of (mostly) 64 weights

Blocks run on from row to row, and only the last one may be short. Two indices a byte, the first in the high half.
The layout, the indices and the constants are those of bitsandbytes 0.50.2, bit for bit.
"""

from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from .codes import nearest


def in_blocks(W: Num[Tensor, "..."], block: int) -> Float[Tensor, "blocks {block}"]:
    """The numbers of W, row after row, in float32 and in blocks; zeros at the end, which change no maximum."""
    if block < 2 or block % 2:
        raise ValueError(f"the block must be an even number of weights, which fill whole bytes, not {block}")
    flat = W.detach().reshape(-1).float()
    return F.pad(flat, (0, -len(flat) % block)).view(-1, block)


def scaled(W: Float[Tensor, "..."], block: int) -> tuple[Float[Tensor, "blocks {block}"], Float[Tensor, " blocks"]]:
    """The blocks divided by the largest magnitude in each, and those magnitudes."""
    blocks = in_blocks(W, block)
    absmax = blocks.abs().amax(1)
    reciprocal = 1 / absmax.clamp_min(1e-38)  # a block of zeros has none; and a product rounds as bitsandbytes' does
    return (blocks * reciprocal[:, None]).clamp(-1, 1), absmax


def quantize_4bit(
    W: Float[Tensor, "..."], code: Float[Tensor, "16"], block: int = 64
) -> tuple[UInt8[Tensor, "bytes 1"], Float[Tensor, " blocks"]]:
    """The packed indices, and absmax of each block."""
    x, absmax = scaled(W, block)
    index = nearest(x, code).view(-1)[: W.numel() + W.numel() % 2]
    return pack(index), absmax


def pack(index: UInt8[Tensor, " n"]) -> UInt8[Tensor, "bytes 1"]:
    """Two 4-bit numbers a byte, the first in the high half."""
    first, second = index.view(-1, 2).unbind(1)
    return (first << 4 | second)[:, None]


def unpack(packed: UInt8[Tensor, "bytes 1"]) -> UInt8[Tensor, " n"]:
    """The 4-bit numbers again; one more than there were where their number was odd."""
    return torch.cat([packed >> 4, packed & 15], 1).view(-1)


def byte_table(code: Float[Tensor, "16"]) -> Float[Tensor, "256 2"]:
    """The two values that each byte stands for: looking up bytes is half the work of looking up half-bytes."""
    return torch.cartesian_prod(code, code)


def dequantize_4bit(
    packed: UInt8[Tensor, "bytes 1"],
    absmax: Float[Tensor, " blocks"],
    table: Float[Tensor, "256 2"],
    shape: tuple[int, ...],
    block: int = 64,
) -> Float[Tensor, "..."]:
    """absmax · code[i] in float32, of the given shape; `table` is `byte_table(code)`."""
    values = F.embedding(packed[:, 0].int(), table).view(-1)
    n = prod(shape)
    if n % block:
        values = F.pad(values, (0, len(absmax) * block - len(values)))
    return values.view(-1, block).mul_(absmax[:, None]).view(-1)[:n].view(shape)
