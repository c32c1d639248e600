"""Codes: the numbers in [-1, 1] that a few bits can stand for. What is stored is an index into such a table.

Each table is derived here. NF4, FP4 and the 8-bit one equal those of bitsandbytes 0.50.2 bit for bit.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# The outermost probability (1 has an infinite quantile): 1 - (1/32 + 1/30) / 2, as bitsandbytes rounds it.
OFFSET = 0.9677083


def nf4() -> Float[Tensor, "16"]:
    """NormalFloat: quantiles of N(0, 1), so that normal weights use all 16 values about equally often.

    An exact zero, 7 values below it and 8 above, divided by the largest. Dettmers et al. 2023, arXiv:2305.14314, §3.
    Not the code of least squared error: `(i + 1/2) / 16` quantiles are nearer, and have no zero.
    """
    below = -quantiles(steps=7)
    return torch.cat([below, torch.zeros(1), quantiles(steps=8)]).sort().values / quantiles(steps=8).max()


def quantiles(steps: int) -> Float[Tensor, "{steps}"]:
    """The quantiles of N(0, 1) at `steps` equal steps of probability from OFFSET down to above 1/2."""
    return torch.special.ndtri(torch.linspace(OFFSET, 0.5, steps + 1)[:-1].double()).float()


def fp4() -> Float[Tensor, "16"]:
    """A sign bit, 2 bits e of exponent and 1 bit m of mantissa, in the order of the bits: ±2^(4 - e) (1 + m/2) / 12.

    bitsandbytes' variant: where e = 0 the value is 0 or 1/16 (of 12), so that a gap is left below 2.
    """
    positive = [0, 1 / 16] + [2 ** (4 - e) * (1 + m / 2) for e in (1, 2, 3) for m in (0, 1)]
    return torch.tensor(positive + [-v for v in positive]) / 12


def e2m1() -> Float[Tensor, "16"]:
    """The 4-bit float of the OCP microscaling formats: as `fp4`, but where e = 0 the value is 0 or 1 (of 12)."""
    code = fp4()
    code[1], code[9] = 1 / 12, -1 / 12
    return code


def int4() -> Float[Tensor, "16"]:
    """The whole numbers -7 to 7, divided by 7: symmetric, so one of the 16 is left over (a second 0 here)."""
    return torch.tensor([*range(-7, 8), 0]) / 7


def dynamic8() -> Float[Tensor, "256"]:
    """8 bits with a moving decimal point: 7 decades with 1, 2, 4, ... 64 values each, both signs, and 0 and 1.

    For numbers of very different sizes, such as quantisation constants. Dettmers 2016, arXiv:1511.04561, §2.
    """
    values = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        means = 10 ** (decade - 6) * ((edges[:-1] + edges[1:]) / 2)
        values += [means, -means]
    return torch.cat(values).sort().values


CODES = {"nf4": nf4, "fp4": fp4, "e2m1": e2m1, "int4": int4}


def code_of(name: str) -> Float[Tensor, "16"]:
    """The table called `name`; ValueError for another name."""
    if name not in CODES:
        raise ValueError(f"there is no 4-bit code {name!r}: choose one of {sorted(CODES)}")
    return CODES[name]()


def nearest(x: Float[Tensor, "*shape"], code: Float[Tensor, " values"]) -> UInt8[Tensor, "*shape"]:
    """The index of the value in `code` that is nearest to x; half-way between two, the smaller one's."""
    values, order = code.to(x.device).sort(stable=True)
    place = torch.bucketize(x, (values[:-1] + values[1:]) / 2, out_int32=True)
    return order.to(torch.uint8)[place]
