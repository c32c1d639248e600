"""A weight in 4 bits: what is kept of it, and how it is made again."""

from typing import NamedTuple

from jaxtyping import Float, Num, UInt8
from torch import Tensor

from .blocks import byte_table, dequantize_4bit, quantize_4bit
from .codes import code_of, dynamic8
from .double import dequantize_constants, quantize_constants


class Stored(NamedTuple):
    """With double quantisation absmax holds 8-bit indices, and the last two are there."""

    packed: UInt8[Tensor, "bytes 1"]
    absmax: Float[Tensor, " blocks"] | UInt8[Tensor, " blocks"]
    absmax2: Float[Tensor, " superblocks"] | None = None
    offset: Float[Tensor, ""] | None = None


def store(W: Num[Tensor, "..."], code: str = "nf4", block: int = 64, double: bool = True) -> Stored:
    """W in 4 bits. ValueError for NaN and infinity, which would spoil their whole block."""
    if not W.is_floating_point():
        raise ValueError(f"a weight of {W.dtype} is quantised already: load the model in 16 or 32 bits")
    if not W.isfinite().all():
        raise ValueError("the weight has NaN or infinite numbers, which cannot be quantised: find their cause first")
    packed, absmax = quantize_4bit(W, code_of(code), block)
    return Stored(packed, *quantize_constants(absmax)) if double else Stored(packed, absmax)


def restore(
    stored: Stored,
    table: Float[Tensor, "256 2"],
    code8: Float[Tensor, "256"] | None,
    shape: tuple[int, ...],
    block: int,
) -> Float[Tensor, "..."]:
    """The weight that `stored` stands for, in float32; `code8` is None without double quantisation."""
    absmax = stored.absmax if code8 is None else dequantize_constants(*stored[1:], code8)
    return dequantize_4bit(stored.packed, absmax, table, shape, block)


def rounded(W: Float[Tensor, "..."], code: str = "nf4", block: int = 64, double: bool = True) -> Float[Tensor, "..."]:
    """What 4 bits leave of W, in its own dtype: a quantiser such as LoftQ asks for."""
    table, code8 = byte_table(code_of(code)).to(W.device), dynamic8().to(W.device) if double else None
    return restore(store(W, code, block, double), table, code8, tuple(W.shape), block).to(W.dtype)
