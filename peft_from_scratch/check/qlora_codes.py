"""What lesson 06 asks of whole numbers with a scale, of the 16 values of NF4, and of two indices a byte."""

import math

import torch

from ..quant.blocks import in_blocks
from ..quant.codes import code_of
from .tools import close, draw, expect, expect_close, expect_tensor, name_the_fault, run, unchanged

SHAPES = "the shapes do not fit: rows is (blocks, block), so a scale of shape (blocks, 1) meets each row."
SIZES = (((6, 32), 16), ((5, 7), 8), ((3, 64), 64))


# 1. Whole numbers and a scale


def two_parts(absmax, w, block):
    """The whole numbers and the scales, as a pair."""
    with unchanged(w=w):
        got = run(absmax, w, block, shapes=SHAPES)
    expect(got is not None, "it returned None: is a `return` missing?")
    expect(isinstance(got, (tuple, list)) and len(got) == 2, "return two things: the whole numbers, and the scales.")
    for name, part in zip(("the first part", "the second part"), got, strict=True):
        expect_tensor(part, name)
    return got[0], got[1].detach().float()


def a_scale_a_block(absmax, rng):
    for shape, block in SIZES:
        w = draw(rng, *shape)
        w[0, 0] = -5.0  # the largest magnitude is a negative number
        rows, (_, scale) = in_blocks(w, block), two_parts(absmax, w, block)
        most = rows.abs().amax(1)
        expect(scale.numel() != 1 or len(rows) == 1,
               "one scale for the whole matrix: its largest weight sets the step of all. One a block.")  # fmt: skip
        across = scale.numel() == block != len(rows)
        expect(not across, "the largest was taken down the columns: a block is a row of `rows`, so reduce over dim 1.")
        expect(scale.numel() == len(rows), f"{len(rows)} blocks, and {scale.numel()} scales: one a block is wanted.")
        name_the_fault(scale.reshape(-1), most, {
            "max without abs: the largest magnitude may belong to a negative weight.": rows.amax(1),
            "that is the mean magnitude: larger weights would need whole numbers above 7.": rows.abs().mean(1),
            "that is the standard deviation: larger weights would need whole numbers above 7.": rows.std(1),
            "that is the size of one step. Return the largest magnitude itself; w is scale · q / 7.": most / 7,
            "that is largest minus least, over two. Symmetric: the largest magnitude.":
                (rows.amax(1) - rows.amin(1)) / 2,
        }, "the scale must be the largest magnitude of its block.")  # fmt: skip


def nearest_whole(absmax, rng):
    for shape, block in SIZES:
        w = draw(rng, *shape)
        rows, (q, _) = in_blocks(w, block), two_parts(absmax, w, block)
        expect(
            q.numel() == rows.numel(), f"{rows.numel()} weights (the last block filled up), and {q.numel()} numbers."
        )
        x = 7 * rows / rows.abs().amax(1, keepdim=True)
        name_the_fault(q.detach().float().reshape(rows.shape), torch.round(x), {
            "not rounded: those are fractions, which four bits cannot hold.": x,
            "cut off, not rounded: the error is up to a whole step, and always towards zero.": torch.trunc(x),
            "rounded down: every weight moves the same way. Round to the nearest.": torch.floor(x),
            "up to 8: four bits with a sign hold -8 to 7, and a symmetric code uses -7 to 7.": torch.round(x * 8 / 7),
            "up to 15: that is five bits with the sign. Seven steps on each side.": torch.round(x * 15 / 7),
            "up to 127: those are 8 bits.": torch.round(x * 127 / 7),
        }, "q must be the whole number nearest to 7 w / scale.")  # fmt: skip


def zeros_stay(absmax, rng):
    w = draw(rng, 4, 16)
    w[2] = 0
    q, scale = two_parts(absmax, w, 16)
    finite = q.detach().float().isfinite().all() and scale.isfinite().all()
    expect(finite, "a block of zeros gave NaN: its scale is 0, and 0 / 0. Divide by scale.clamp_min(1e-38).")
    expect(not q.reshape(4, 16)[2].any(), "a block of zeros must stay zeros.")


# 2. The 16 values


def values(make):
    got = run(make, shapes="the shapes do not fit: torch.cat takes a list of one-dimensional tensors.")
    expect_tensor(got)
    expect(got.dim() == 1, f"a list of 16 values is wanted, not a tensor of shape {tuple(got.shape)}.")
    return got.detach().float()


NAIVE = torch.special.ndtri((torch.arange(16) + 0.5) / 16)
ABOVE = code_of("nf4")[8:]
MIRRORED, SHORTENED = (torch.cat([-half.flip(0), torch.zeros(1), ABOVE]) for half in (ABOVE[1:], ABOVE[:-1]))


def sixteen(make, rng):
    got = values(make)
    said = {15: "15 values: a half has 8 quantiles, the other 7, and zero is the sixteenth.",
            17: "17 values: four bits name 16. One half gets 8 quantiles, the other 7."}  # fmt: skip
    expect(len(got) == 16, said.get(len(got), f"{len(got)} values; four bits name 16."))
    expect((got.diff() >= 0).all(), "the values are not sorted: the index of a weight is found by its place in order.")
    expect((got.diff() > 0).all(), "two of the values are equal, so one of the 16 indices is wasted.")


def exact_zero(make, rng):
    got = values(make)
    found = (got == 0).sum().item()
    even = len(got) == 16 and not found and close(got / got.max(), NAIVE / NAIVE.max(), 1e-4)
    expect(not even, "those are the quantiles (i + 1/2) / 16: no exact zero, so a weight of 0 comes back as another.")
    expect(found == 1, "no value is exactly zero. It is put in by hand, between the halves.")
    expect((got > 0).sum() != 7, "7 above zero and 8 below: the other way round. NF4 has the odd one above.")


def is_nf4(make, rng):
    got, want = values(make), code_of("nf4")
    uniform = torch.tensor([*range(-8, 0), *range(8)]) / 8
    name_the_fault(got, want, {
        "not divided by the largest: the ends must be -1 and 1, since a block is divided by its largest.":
            want * torch.special.ndtri(torch.tensor(0.9677083)),
        "equal steps: that is a uniform code. Take the quantiles.": uniform,
        "equal steps: that is the symmetric int4. Take the quantiles.": code_of("int4")[:16].sort().values,
        "below zero are the 8 from above, without the innermost. 7 quantiles have wider steps than 8.": MIRRORED,
        "below zero are the 8 from above, without the outermost: -1 is missing. 7 quantiles have wider steps than 8.":
            SHORTENED,
        "those are the probabilities, not the quantiles at them.": torch.cat(
            [-torch.linspace(0.9677083, 0.5, 8)[:-1], torch.zeros(1), torch.linspace(0.9677083, 0.5, 9)[:-1]]
        ).sort().values,
    }, "the values must be quantiles(8) above zero, -quantiles(7) below, and 0, over the largest.")  # fmt: skip
    expect(got[0] == -1 and got[-1] == 1, "the ends must be exactly -1 and 1.")


# 3. Two indices a byte

CODE = code_of("nf4")


def packing(pair, w, block):
    """The bytes and the scales of a learner's quantise."""
    quantise, _ = pair
    with unchanged(w=w, code=CODE):
        got = run(quantise, w, CODE, block, shapes=SHAPES)
    expect(got is not None, "quantise returned None: is a `return` missing?")
    expect(isinstance(got, (tuple, list)) and len(got) == 2, "quantise returns two things: the bytes, and the scales.")
    packed, scale = got
    expect_tensor(packed, "the first part of quantise"), expect_tensor(scale, "the second part of quantise")
    return packed, scale


def indices(w, block, code=CODE):
    """The right indices, with the last block filled up, and their scales."""
    rows = in_blocks(w, block)
    scale = rows.abs().amax(1, keepdim=True)
    x = rows * (1 / scale.clamp_min(1e-38))
    return torch.bucketize(x, (code[:-1] + code[1:]) / 2).view(-1), scale


def two_a_byte(pair, rng):
    for shape, block in SIZES:
        w = draw(rng, *shape)
        packed, _ = packing(pair, w, block)
        full = math.ceil(w.numel() / block) * block
        expect(packed.dtype == torch.uint8, f"the indices are of type {packed.dtype}: bytes are torch.uint8.")
        expect(packed.numel() not in (w.numel(), full), "a byte for each index: that is 8 bits a weight. Two a byte.")
        fits = w.numel() // 2 <= packed.numel() <= full // 2
        expect(fits, f"{w.numel()} weights in {packed.numel()} bytes: two a byte are wanted.")


def right_indices(pair, rng):
    for shape, block in SIZES:
        w = draw(rng, *shape)
        (packed, scale), (index, most) = packing(pair, w, block), indices(w, block)
        got = packed.reshape(-1).int()
        high, low = (each[: len(got)].int() for each in (index[0::2], index[1::2]))
        x = in_blocks(w, block) * (1 / most)
        below = (torch.bucketize(x, CODE, right=True) - 1).clamp_min(0).view(-1)
        above = torch.bucketize(x, CODE).view(-1)
        one = indices(w, w.numel() + w.numel() % 2)[0][: w.numel() // 2 * 2]
        uniform = (torch.round(7 * x) + 7).view(-1).long()
        halves = index.view(-1, 2, block // 2).mT.reshape(-1)
        for advice, other in (
            ("the first index is in the low half. The reference library has it in the high half: first << 4 | second.",
             index.view(-1, 2).flip(1).reshape(-1)),
            ("the index below was taken, not the nearest: compare with the middles between two values.", below),
            ("the index above was taken, not the nearest: compare with the middles between two values.", above),
            ("the code is not used: equal steps of 1/7. Find the nearest of its 16 values.", uniform),
            ("the first half of a block shares its bytes with the second half. Neighbours share one: the first weight "
             "and the second, the third and the fourth.", halves),
            ("one scale for the whole matrix. One a block.", one),
        ):  # fmt: skip
            n = min(len(got), len(other) // 2)
            same = (got[:n] == (other[0 : 2 * n : 2] << 4 | other[1 : 2 * n : 2])).all()
            expect(not same or (other[: 2 * n] == index[: 2 * n]).all(), advice)
        wrong = (got != (high << 4 | low)).sum().item()
        expect(
            wrong <= len(got) // 500,
            "a byte must be first << 4 | second, where each is the index of the nearest value.",
        )
        advice = "the scale must be the largest magnitude of each block."
        expect(scale.numel() == len(most), advice)
        expect_close(scale.detach().float().reshape(-1), most.reshape(-1), advice)


def comes_back(pair, rng):
    _, dequantise = pair
    for shape, block in SIZES:
        w = draw(rng, *shape)
        packed, scale = packing(pair, w, block)
        with unchanged(packed=packed, scale=scale):
            got = looked_up(dequantise, packed, scale, CODE, shape, block)
        expect_tensor(got, "dequantise")
        expect(tuple(got.shape) == shape, f"dequantise gave the shape {tuple(got.shape)}; {shape} was asked for.")
        index, most = indices(w, block)
        found, rows = CODE[index], (len(most), block)
        swapped = CODE[index.view(-1, 2).flip(1).reshape(-1)]
        name_the_fault(got.float(), cut(shape, found.view(rows) * most), {
            "the scale is missing: those are values between -1 and 1.": cut(shape, found),
            "that is the index, not the value that it stands for: look it up in the code.":
                cut(shape, index.view(rows).float() * most),
            "the two halves of a byte have changed places on the way back.": cut(shape, swapped.view(rows) * most),
            "divided by the scale. Quantising divides; coming back multiplies.": cut(shape, found.view(rows) / most),
        }, "dequantise must give scale · code[index], in the shape asked for.")  # fmt: skip


def looked_up(dequantise, *stored):
    """What dequantise gives; where bytes were used as indices, what torch makes of them."""
    try:
        return run(dequantise, *stored, shapes="the shapes do not fit in dequantise: code[index] in rows of one block, "
                   "times scale (blocks, 1); then what fills up the last block falls off, values[: math.prod(shape)], "
                   "and the rest is put in shape.")  # fmt: skip
    except IndexError as error:
        if "mask" not in str(error) and "too many indices" not in str(error):
            raise
    raise AssertionError("torch reads an index of the type uint8 as a mask, not as places: code[index.int()].")


def cut(shape, values):
    """The first values, in the shape asked for: what fills up the last block falls off."""
    return values.reshape(-1)[: math.prod(shape)].view(shape)


def zero_blocks(pair, rng):
    w = draw(rng, 4, 16)
    w[1] = 0
    packed, scale = packing(pair, w, 16)
    got = looked_up(pair[1], packed, scale, CODE, (4, 16), 16)
    expect_tensor(got, "dequantise")
    fine = got.shape == w.shape and not got[1].any()
    fine = fine and (packed.reshape(-1)[8:16] == 0x77).all()  # twice the index of 0
    expect(
        fine,
        "a block of zeros must stay zeros: divide by scale.clamp_min(1e-38), so that 0 / 0 cannot be.",
    )


# 10. The constants quantised too


def three_parts(double, scale, code8):
    with unchanged(scale=scale, code8=code8):
        got = run(double, scale, code8, shapes="the shapes do not fit: the scales, in blocks of 256, are rows.")
    expect(
        isinstance(got, (tuple, list)) and len(got) == 3, "return three things: indices, their scales, and the mean."
    )
    for name, part in zip(("the indices", "their scales", "the mean"), got, strict=True):
        expect_tensor(part, name)
    return got
