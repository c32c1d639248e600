"""Lesson 06, quantisation and QLoRA: whole numbers and a scale, NF4, two indices a byte, the bits a weight, the
forward in order, the 4-bit layer, LoRA over it, who has how many bits, a second rounding, the constants."""

import torch

from ..quant.codes import dynamic8
from ..quant.double import quantize_constants
from .exercise import Exercise, Lesson, Property, Wrong
from .qlora_codes import (
    a_scale_a_block,
    comes_back,
    exact_zero,
    is_nf4,
    nearest_whole,
    right_indices,
    sixteen,
    three_parts,
    two_a_byte,
    zero_blocks,
    zeros_stay,
)
from .qlora_layers import (
    adds_in_full,
    base_is_packed,
    is_a_number,
    keeps_bytes,
    keeps_only_the_bytes,
    multiplies,
    passes_the_gradient,
    right_fraction,
    starts_as_4bit,
    two_train,
)
from .tools import agrees, draw, expect, expect_before, letters, name_the_fault

# 1. Whole numbers and a scale


def absmax_with(scale="rows.abs().amax(1, keepdim=True)", q="torch.round(7 * rows / scale.clamp_min(1e-38))", more=""):
    return (f"def absmax(w, block):\n    rows = in_blocks(w, block)\n    scale = {scale}\n"
            f"    return {q}, scale{more}")  # fmt: skip


ABSMAX = Exercise(
    name="qlora.absmax", defines="absmax", title="Whole numbers and a scale", tier="core", difficulty=1, minutes=5,
    points=2, unlocks="every code that follows: each divides its block by this scale", needs=("in_blocks",),
    reference=absmax_with(),
    properties=(Property("the scale is the largest magnitude of a block", a_scale_a_block, core=True),
                Property("q is the nearest whole number, from -7 to 7", nearest_whole, core=True),
                Property("a block of zeros stays zeros", zeros_stay, core=True)),
    hints=("What must a block be divided by, so that its largest magnitude becomes 7?",
           "scale = max |w| over the block; q = round(7 w / scale)",
           "scale = rows.abs()...(1, keepdim=True); return torch.round(7 * rows / ...), scale"),
    remark="The clamp costs nothing and saves a block of zeros, such as a padded or pruned one, from 0 / 0.",
    wrong=(Wrong("one scale a matrix", absmax_with("rows.abs().max().expand(len(rows), 1)[:1]"),
                 "one scale for the whole",
                 museum="one scale a matrix"),
           Wrong("max without abs", absmax_with("rows.amax(1, keepdim=True)"), "max without abs"),
           Wrong("the mean", absmax_with("rows.abs().mean(1, keepdim=True)"), "mean magnitude"),
           Wrong("the deviation", absmax_with("rows.std(1, keepdim=True)"), "standard deviation"),
           Wrong("down the columns", absmax_with("rows.abs().amax(0, keepdim=True)"), "down the columns|scales"),
           Wrong("the step", absmax_with(q="torch.round(7 * rows / scale.clamp_min(1e-38))", more=" / 7"),
                 "size of one step"),
           Wrong("eight steps", absmax_with(q="torch.round(8 * rows / scale.clamp_min(1e-38))"), "up to 8"),
           Wrong("fifteen steps", absmax_with(q="torch.round(15 * rows / scale.clamp_min(1e-38))"), "up to 15"),
           Wrong("8 bits", absmax_with(q="torch.round(127 * rows / scale.clamp_min(1e-38))"), "8 bits"),
           Wrong("cut off", absmax_with(q="(7 * rows / scale.clamp_min(1e-38)).int()"), "cut off"),
           Wrong("rounded down", absmax_with(q="(7 * rows / scale.clamp_min(1e-38)).floor()"), "rounded down"),
           Wrong("not rounded", absmax_with(q="7 * rows / scale.clamp_min(1e-38)"), "not rounded"),
           Wrong("0 / 0", absmax_with(q="torch.round(7 * rows / scale)"), "NaN"),
           Wrong("the scale alone", "def absmax(w, block):\n    return in_blocks(w, block).abs().amax(1)",
                 "two things"),
           Wrong("in place", "def absmax(w, block):\n    rows = in_blocks(w, block)\n"
                 "    scale = rows.abs().amax(1, keepdim=True)\n    w.mul_(2)\n"
                 "    return torch.round(7 * rows / scale.clamp_min(1e-38)), scale", "in place")),
)  # fmt: skip


# 2. The 16 values of NF4


def nf4_with(parts="[-quantiles(7), torch.zeros(1), quantiles(8)]", end="return code.sort().values / code.max()"):
    return f"def nf4_code():\n    code = torch.cat({parts})\n    {end}"


NF4 = Exercise(
    name="qlora.nf4", defines="nf4_code", title="The 16 values of NF4", tier="core", difficulty=2, minutes=8, points=3,
    unlocks="the code that QLoRA stores its weights in", needs=("quantiles",), reference=nf4_with(),
    properties=(Property("16 different values, sorted", sixteen, core=True),
                Property("one of them is exactly zero", exact_zero, core=True),
                Property("they are the values of NF4", is_nf4, core=True)),
    hints=("Zero takes one of the 16. How do you share 15 between two halves?",
           "code = (-quantiles(7), 0, quantiles(8)), sorted, over the largest",
           "torch.cat([-quantiles(...), torch.zeros(1), quantiles(...)]), then sort, then divide"),
    remark="Both halves start at the same outermost quantile, so that dividing by the largest makes both ends exact.",
    wrong=(Wrong("even quantiles", "def nf4_code():\n    code = torch.special.ndtri((torch.arange(16) + 0.5) / 16)\n"
                 "    return code / code.max()", "no exact zero", museum="quantiles without a zero"),
           Wrong("uniform", "def nf4_code():\n    return torch.linspace(-1, 1, 16)", "exactly zero"),
           Wrong("int4", "def nf4_code():\n    return torch.arange(-8, 8) / 8", "other way round|equal steps"),
           Wrong("eight on both sides", nf4_with("[-quantiles(8), torch.zeros(1), quantiles(8)]"), "17 values"),
           Wrong("seven on both sides", nf4_with("[-quantiles(7), torch.zeros(1), quantiles(7)]"), "15 values"),
           Wrong("zero forgotten", nf4_with("[-quantiles(7), quantiles(8)]"), "15 values"),
           Wrong("zero forgotten, eight and eight", nf4_with("[-quantiles(8), quantiles(8)]"), "exactly zero"),
           Wrong("mirrored", nf4_with("[-quantiles(8)[:-1], torch.zeros(1), quantiles(8)]"), "without the innermost"),
           Wrong("mirrored, no -1", nf4_with("[-quantiles(8)[1:], torch.zeros(1), quantiles(8)]"),
                 "without the outermost"),
           Wrong("the other way round", nf4_with("[-quantiles(8), torch.zeros(1), quantiles(7)]"), "other way round"),
           Wrong("not normalised", nf4_with(end="return code.sort().values"), "divided by the largest"),
           Wrong("not sorted", nf4_with(end="return code / code.max()"), "sorted"),
           Wrong("two zeros", nf4_with("[-quantiles(7), torch.zeros(2), quantiles(7)]"), "equal"),
           Wrong("a list", nf4_with(end="return (code.sort().values / code.max()).tolist()"), "tensor")),
)  # fmt: skip


# 3. Two indices a byte

STORE = {
    "scale": "rows.abs().amax(1, keepdim=True)",
    "x": "rows * (1 / scale.clamp_min(1e-38))",
    "index": "torch.bucketize(x, (code[:-1] + code[1:]) / 2).to(torch.uint8).view(-1, 2)",
    "pack": "index[:, 0] << 4 | index[:, 1]",
    "unpack": "torch.stack((packed >> 4, packed & 15), 1).int()",
    "values": "code[index].view(-1, block) * scale",
    "end": "values.flatten()[: math.prod(shape)].view(shape)",
}


def store_with(**faults):
    part = {**STORE, **faults}
    return (f"def quantise(w, code, block=64):\n    rows = in_blocks(w, block)\n    scale = {part['scale']}\n"
            f"    x = {part['x']}\n    index = {part['index']}\n    return {part['pack']}, scale\n\n\n"
            f"def dequantise(packed, scale, code, shape, block=64):\n    index = {part['unpack']}\n"
            f"    values = {part['values']}\n    return {part['end']}")  # fmt: skip


STORED = Exercise(
    name="qlora.store", defines="quantise, dequantise", title="Two indices a byte", tier="core", difficulty=3,
    minutes=10,
    points=5, unlocks="the comparison of codes, and the layer that stores its weight so", needs=("in_blocks", "math"),
    reference=store_with(),
    properties=(Property("stores a byte for two weights", two_a_byte, core=True),
                Property("the indices are those of the nearest values", right_indices, core=True),
                Property("dequantise undoes it, but for the rounding", comes_back, core=True),
                Property("a block of zeros comes back as zeros", zero_blocks, core=True)),
    hints=("Between two values of a sorted code, where does the nearest one change? What does torch.bucketize count?",
           "index = number of middles (code[i] + code[i + 1]) / 2 below w / scale; byte = 16 · first + second; "
           "w ≈ scale · code[index]",
           "index = torch.bucketize(rows / scale, ...); packed = index[:, 0] << 4 | index[:, 1]; then packed >> 4 and "
           "packed & 15"),
    remark="It multiplies by 1 / scale where you may divide: so does the reference library, to the last bit.",
    wrong=(Wrong("one scale a matrix", store_with(scale="rows.abs().max().expand(len(rows), 1)"),
                 "one scale|largest magnitude", museum="one scale a matrix"),
           Wrong("an index a byte", store_with(pack="index.flatten()", unpack="packed.int()"), "8 bits a weight"),
           Wrong("low half first", store_with(pack="index[:, 1] << 4 | index[:, 0]",
                                              unpack="torch.stack((packed & 15, packed >> 4), 1).int()"), "low half"),
           Wrong("halves of a block", store_with(
               index="torch.bucketize(x, (code[:-1] + code[1:]) / 2).to(torch.uint8)",
               pack="index[:, : block // 2] << 4 | index[:, block // 2 :]",
               unpack="torch.cat((packed >> 4, packed & 15), 1).int()"), "Neighbours"),
           Wrong("bytes as places", store_with(unpack="torch.stack((packed >> 4, packed & 15), 1)"), "mask"),
           Wrong("fill kept", store_with(end="values.view(shape)"), "falls off"),
           Wrong("halves swapped back", store_with(unpack="torch.stack((packed & 15, packed >> 4), 1).int()"),
                 "changed places"),
           Wrong("the index below", store_with(
               index="(torch.bucketize(x, code, right=True) - 1).clamp_min(0).to(torch.uint8).view(-1, 2)"), "below"),
           Wrong("the index above", store_with(index="torch.bucketize(x, code).to(torch.uint8).view(-1, 2)"), "above"),
           Wrong("equal steps", store_with(index="(torch.round(7 * x) + 7).to(torch.uint8).view(-1, 2)"),
                 "code is not used"),
           Wrong("scale forgotten", store_with(values="code[index].view(-1, block)"), "scale is missing"),
           Wrong("divides on the way back", store_with(values="code[index].view(-1, block) / scale"), "coming back"),
           Wrong("indices as values", store_with(values="index.view(-1, block) * scale"), "not the value"),
           Wrong("max without abs", store_with(scale="rows.amax(1, keepdim=True)"), "largest magnitude|first << 4"),
           Wrong("0 / 0", store_with(x="rows / scale"), "zeros"),
           Wrong("flat", store_with(end="values.flatten()"), "shape"),
           Wrong("floats", store_with(pack="(index[:, 0] << 4 | index[:, 1]).float()",
                                      unpack="torch.stack((packed // 16, packed % 16), 1).int()"), "uint8")),
)  # fmt: skip


# 4. Bits a weight

BLOCKS = ((64, None), (64, 256), (32, None), (128, 64), (256, 1024))


def right_bits(block, second):
    return 4 + (32 if second is None else 8 + 32 / second) / block


def counts_bits(bits, rng):
    agrees(lambda block, second: bits(block) if second is None else bits(block, second), BLOCKS, right_bits, {
        "the constants are missing: each block also stores its scale.": lambda b, s: 4.0,
        "that is the share of the constants alone: the index has 4 bits.": lambda b, s: right_bits(b, s) - 4,
        "a scale is a float32, 32 bits, where it is not quantised.": lambda b,
        s: 4 + (16 if s is None else 8 + 16 / s) / b,
        "with a second block there is no scale of 32 bits any more: it has 8, and 32 for `second` scales together.":
            lambda b, s: 4 + 32 / b + (0 if s is None else 8 / b + 32 / (b * s)),
        "8 bits were shared by `second` scales. Each scale has 8 bits of its own, and `second` of them share 32.":
            lambda b, s: 4 + 32 / b + (0 if s is None else 8 / s),
        "the second constants are missing: every `second` scales share one of 32 bits.":
            lambda b, s: 4 + (32 if s is None else 8) / b,
        "the second constants belong to `second` scales, and each scale to `block` weights: divide by both.":
            lambda b, s: 4 + (32 / b if s is None else 8 / b + 32 / s),
        "those are bytes, not bits.": lambda b, s: right_bits(b, s) / 8,
        "that ignores `second`.": lambda b, s: 4 + 32 / b,
        "8 bits were counted for the index: two go into a byte.": lambda b, s: right_bits(b, s) + 4,
    }, "4 + 32 / block; with a second block 4 + 8 / block + 32 / (block · second).")  # fmt: skip


def bits_with(constant="32 if second is None else 8 + 32 / second", end="4 + constant / block"):
    return f"def bits(block, second=None):\n    constant = {constant}\n    return {end}"


BITS = Exercise(
    name="qlora.bits", defines="bits", title="Bits a weight", tier="core", difficulty=1, minutes=4, points=2,
    unlocks="the size of any 4-bit model, and the price of a smaller block", reference=bits_with(),
    properties=(Property("counts the indices and both kinds of constants", counts_bits, core=True),),
    hints=("How many bits does one block store beside its indices, and how many weights share them?",
           "4 + 32 / block; with double quantisation 4 + 8 / block + 32 / (block · second)",
           "constant = 32 if second is None else 8 + ...; return 4 + constant / ..."),
    remark="One number more, the mean of the scales, is stored once a matrix: too little to see.",
    wrong=(Wrong("four bits are four bits", bits_with(end="4.0"), "constants are missing"),
           Wrong("16 bits a scale", bits_with("16 if second is None else 8 + 16 / second"), "float32"),
           Wrong("both kinds of scale", bits_with("32 if second is None else 32 + 8 + 32 / second"),
                 "no scale of 32 bits"),
           Wrong("second constants free", bits_with("32 if second is None else 8"), "second constants are missing"),
           Wrong("not divided by the block",
                 bits_with(end="4 + (32 / block if second is None else 8 / block + 32 / second)"),
                 "divide by both"),
           Wrong("bytes", bits_with(end="(4 + constant / block) / 8"), "bytes, not bits"),
           Wrong("second ignored", bits_with("32"), "ignores"),
           Wrong("constants alone", bits_with(end="constant / block"), "constants alone"),
           Wrong("a byte an index", bits_with(end="8 + constant / block"), "two go into a byte"),
           Wrong("8 bits for many", bits_with(end="4 + 32 / block + (0 if second is None else 8 / second)"),
                 "8 bits of its own"),
           Wrong("floor", bits_with(end="4 + constant // block"), "32 / block")),
)  # fmt: skip


# 5. The forward of QLoRA, in order


def four_of_eight(order, rng):
    found = letters(order, '"A", "C"', last="H")
    instead = "" if "H" in found else " in place of the weight"
    expect(
        "B" not in found,
        f"B rounds the inputs{instead}. Nothing is saved by that, since x is not stored; the weight is.",
    )
    expect("D" not in found, "D keeps the dequantised weight: after one pass the model is as large as it was before.")
    expect("F" not in found, "F rounds what was learned into the weight: most of it is lost. A and B stay beside it.")
    expect(
        "G" not in found, "G multiplies by the indices. They are places in a table, not numbers: look them up first."
    )
    expect(len(set(found)) == len(found), "a letter comes twice.")
    expect(len(found) == 4, f"four lines are wanted; you gave {len(found)}.")


def in_order(order, rng):
    found = letters(order, '"A", "C"', last="H")
    expect_before(found, (("H", "C", "`W` is used in C, so H comes before it."),
                                ("C", "E", "`y` is made in C and added to in E."),
                                ("E", "A", "nothing after a return is run: A is the last line.")))  # fmt: skip


ORDER = Exercise(
    name="qlora.order", defines="order", title="Order the forward of QLoRA", tier="full", difficulty=1, minutes=3,
    points=2,
    unlocks="the two classes that you write next", kind="order", reference='order = ["H", "C", "E", "A"]',
    properties=(Property("has the four lines, and only them", four_of_eight, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("Which tensors have 4 bits, and for how long is anything else kept?",
           "W = dequantise(stored); y = x Wᵀ; y + s (x Aᵀ) Bᵀ: x, A and B are never rounded",
           'order = ["H", ...], four letters'),
    remark="The dequantised W lives for one line. That is why only one layer at a time is large.",
    wrong=(Wrong("rounds the inputs", 'order = ["B", "H", "C", "E", "A"]', "since x is not stored"),
           Wrong("rounds the inputs in place of the weight", 'order = ["B", "C", "E", "A"]', "in place of the weight",
                 museum="inputs rounded, weights not"),
           Wrong("keeps W", 'order = ["H", "D", "C", "E", "A"]', "as large as it was"),
           Wrong("folds the change in", 'order = ["F", "H", "C", "A"]', "most of it is lost"),
           Wrong("multiplies by the indices", 'order = ["G", "E", "A"]', "places in a table"),
           Wrong("W too late", 'order = ["C", "H", "E", "A"]', "H comes before"),
           Wrong("adds too early", 'order = ["H", "E", "C", "A"]', "made in C"),
           Wrong("returns early", 'order = ["H", "C", "A", "E"]', "A is the last"),
           Wrong("no LoRA", 'order = ["H", "C", "A"]', "you gave 3"),
           Wrong("as code", 'order = ["dequantise", "product"]', "letters")),
)  # fmt: skip


# 6. The 4-bit layer

LINEAR = {
    "save": "ctx.save_for_backward(packed, scale, code)",
    "shape": "ctx.shape = shape",
    "product": "return x @ dequantise(packed, scale, code, shape).to(x.dtype).T",
    "backward": "W = dequantise(*ctx.saved_tensors, ctx.shape).to(dy.dtype)\nreturn dy @ W, None, None, None, None",
    "keep": "self.register_buffer('packed', packed)\nself.register_buffer('scale', scale)\n"
            "self.register_buffer('code', code)",
    "forward": "y = Product.apply(x, self.packed, self.scale, self.code, self.shape)\n"
               "return y if self.bias is None else y + self.bias.to(y.dtype)",
}  # fmt: skip


def linear_with(**faults):
    part = {key: text.replace("\n", "\n        ") for key, text in {**LINEAR, **faults}.items()}
    return "\n".join([
        "class Product(torch.autograd.Function):", "    @staticmethod",
        "    def forward(ctx, x, packed, scale, code, shape):", f"        {part['save']}", f"        {part['shape']}",
        f"        {part['product']}", "", "    @staticmethod", "    def backward(ctx, dy):",
        f"        {part['backward']}",
        "", "", "class Linear4bit(nn.Module):", "    def __init__(self, base, code):", "        super().__init__()",
        "        self.shape, self.bias = tuple(base.weight.shape), base.bias",
        "        packed, scale = quantise(base.weight, code)", f"        {part['keep']}", "",
        "    def forward(self, x):", f"        {part['forward']}"])  # fmt: skip


WHOLE = "dequantise(packed, scale, code, shape).to(x.dtype)"
LINEAR4BIT = Exercise(
    name="qlora.linear", defines="Linear4bit", title="The 4-bit layer", tier="full", difficulty=4, minutes=15, points=6,
    unlocks="a model of a seventh of the size, which still passes gradients down", needs=("torch", "nn"),
    reference=linear_with(),
    properties=(Property("holds the bytes and the scales, and no weight", keeps_bytes, core=True),
                Property("multiplies by the dequantised weight", multiplies, core=True),
                Property("passes the right gradient to x", passes_the_gradient, core=True),
                Property("keeps only the bytes for the backward pass", keeps_only_the_bytes, core=True)),
    hints=("What does the backward pass need in order to compute dy @ W? And what is there anyway, packed?",
           "forward: y = x Wᵀ + b; backward: dx = dy W, with W = dequantise(...) made anew in both; W has no gradient",
           "ctx.save_for_backward(packed, scale, code); ...; W = dequantise(*ctx.saved_tensors, ctx.shape); "
           "return dy @ W, None, ..."),
    remark="x is not saved either. Only the gradient of W would need it, and W has none.",
    wrong=(Wrong("saves W", linear_with(save=f"W = {WHOLE}\nctx.save_for_backward(W)", product="return x @ W.T",
                                        backward="(W,) = ctx.saved_tensors\nreturn dy @ W, None, None, None, None"),
                 "whole weight is kept"),
           Wrong("plain product", linear_with(
               forward="W = dequantise(self.packed, self.scale, self.code, self.shape).to(x.dtype)\n"
                       "return F.linear(x, W, None if self.bias is None else self.bias.to(x.dtype))"),
                 "whole weight is kept"),
           Wrong("W by hand on ctx", linear_with(shape=f"ctx.W = {WHOLE}", product="return x @ ctx.W.T",
                                                 backward="return dy @ ctx.W, None, None, None, None"),
                 "whole weight is kept"),
           Wrong("saves x", linear_with(save="ctx.save_for_backward(x, packed, scale, code)", backward=(
               "_, *stored = ctx.saved_tensors\nW = dequantise(*stored, ctx.shape).to(dy.dtype)\n"
               "return dy @ W, None, None, None, None")), "x is kept"),
           Wrong("no gradient", linear_with(backward="return None, None, None, None, None"), "no gradient",
                 museum="no gradient for the input"),
           Wrong("detached", linear_with(forward="W = dequantise(self.packed, self.scale, self.code, self.shape)\n"
                 "y = (x @ W.to(x.dtype).T).detach()\nreturn y if self.bias is None else y + self.bias.to(y.dtype)"),
                 "detached|no gradient"),
           Wrong("backward not turned", linear_with(
               backward=LINEAR["backward"].replace("dy @ W,", "dy @ W.T,")), "shapes do not fit"),
           Wrong("keeps the weight too", linear_with(keep=LINEAR["keep"] + "\nself.weight = base.weight"),
                 "weight itself"),
           Wrong("keeps it dequantised", linear_with(
               keep=LINEAR["keep"] + "\nself.register_buffer('W', dequantise(packed, scale, code, self.shape))"),
                 "weight itself"),
           Wrong("plain attributes", linear_with(keep="self.packed, self.scale, self.code = packed, scale, code"),
                 "register_buffer"),
           Wrong("code left behind", linear_with(keep=LINEAR["keep"].replace(
               "self.register_buffer('code', code)", "self.code = code")), "self.code is an attribute"),
           Wrong("keeps the base", linear_with(keep=LINEAR["keep"] + "\nself.base = base"), "self.base.weight"),
           Wrong("not applied", linear_with(forward=LINEAR["forward"].replace("Product.apply", "Product")),
                 "Product.apply"),
           Wrong("W not cast", linear_with(product="return x @ dequantise(packed, scale, code, shape).T"),
                 "type of x"),
           Wrong("W not cast on the way back", linear_with(
               backward=LINEAR["backward"].replace(".to(dy.dtype)", "")), "that of dy"),
           Wrong("bias lost", linear_with(forward=LINEAR["forward"].split("\n")[0] + "\nreturn y"), "bias was lost"),
           Wrong("in float32", linear_with(product="return x.float() @ dequantise(packed, scale, code, shape).T",
                 backward="W = dequantise(*ctx.saved_tensors, ctx.shape)\nreturn dy @ W, None, None, None, None"),
                 "bfloat16|type of x"),
           Wrong("not quantised", linear_with(
               keep="self.base = base", forward="return self.base(x)"), "weight itself")),
)  # fmt: skip


# 7. LoRA over it

LAYER = {
    "base": "super().__init__(Linear4bit(base, code))",
    "A": "self.A = nn.Parameter(torch.randn(r, base.in_features) / base.in_features**0.5)",
    "B": "self.B = nn.Parameter(torch.zeros(base.out_features, r))",
    "scale": "self.s = alpha / r",
    "forward": "return self.base(x) + self.s * (x @ self.A.T) @ self.B.T",
}


def layer_with(**faults):
    part = {key: text.replace("\n", "\n        ") for key, text in {**LAYER, **faults}.items()}
    *init, forward = (f"        {text}" for text in part.values() if text)
    return "\n".join(["class QLoRALinear(Adapter):", "    def __init__(self, base, code, r, alpha):", *init, "",
                      "    def forward(self, x):", forward])  # fmt: skip


COARSE = "A, B = (dequantise(*quantise(p, code), code, p.shape) for p in (self.A, self.B))\n"
QLORA = Exercise(
    name="qlora.layer", defines="QLoRALinear", title="Put your LoRA on it", tier="core", difficulty=2, minutes=6,
    points=4,
    unlocks="QLoRA on a model that chats", needs=("torch", "nn", "Adapter"), reference=layer_with(),
    properties=(Property("its base is the 4-bit layer", base_is_packed, core=True),
                Property("starts as that layer", starts_as_4bit, core=True),
                Property("adds α / r · (x Aᵀ) Bᵀ, in full precision", adds_in_full, core=True),
                Property("A and B train, and nothing else", two_train, core=True)),
    hints=("What did lesson 04's LoRALinear give to super().__init__, and what should stand there now?",
           "y = x dequantise(W4)ᵀ + b + (α / r) (x Aᵀ) Bᵀ, with A random and B zero",
           "super().__init__(Linear4bit(base, code)); the rest is lesson 04's LoRALinear"),
    remark="One argument differs from lesson 04. QLoRA is no new adapter, but LoRA on a base that is stored otherwise.",
    wrong=(Wrong("plain base", layer_with(base="super().__init__(base)"), "plain layer|all its bits"),
           Wrong("keeps the plain layer too", layer_with(scale="self.s = alpha / r\nself.old = base"), "still there"),
           Wrong("A and B in 4 bits", layer_with(
               scale="self.s, self.code = alpha / r, code",
               forward=COARSE.replace(", code)", ", self.code)").replace("), code,", "), self.code,")
               + "return self.base(x) + self.s * (x @ A.T) @ B.T"), "keep all their bits|no gradient"),
           Wrong("inputs rounded", layer_with(
               forward="x = torch.round(15 * x) / 15\n" + LAYER["forward"]), "inputs are rounded|before training"),
           Wrong("alpha alone", layer_with(scale="self.s = alpha"), "multiplied by α"),
           Wrong("no scale", layer_with(scale="self.s = 1"), "not scaled"),
           Wrong("both zero", layer_with(A="self.A = nn.Parameter(torch.zeros(r, base.in_features))"), "both zero"),
           Wrong("both random", layer_with(B="self.B = nn.Parameter(torch.randn(base.out_features, r))"),
                 "both random"),
           Wrong("edit replaces base", layer_with(forward="return self.s * (x @ self.A.T) @ self.B.T"),
                 "own output is missing"),
           Wrong("base only", layer_with(forward="return self.base(x)"), "no effect"),
           Wrong("base set free", layer_with(scale="self.s = alpha / r\nself.base.requires_grad_(True)"),
                 "more than A and B"),
           Wrong("detached", layer_with(
               forward="return self.base(x) + (self.s * (x @ self.A.T) @ self.B.T).detach()"), "detached")),
)  # fmt: skip


# 8. Who has how many bits

ROWS = ("W, between two steps", "W, where x meets it", "x", "the gradient of W", "the gradient of A")
WORDS = ("4 bits", "16 bits", "32 bits", "none")


def said_bits(table):
    expect(isinstance(table, dict) and set(table) == set(ROWS), "keep the five rows of the table as they are.")
    for row, word in table.items():
        expect(word in WORDS, f"{row!r} is {word!r}; write 4 bits, 16 bits, 32 bits or none.")


def measured_bits(rng):
    """What a bfloat16 input meets in a layer of the package, with A and B in float32."""
    from ..methods.lowrank.lora import LoRA
    from ..quant import to_4bit

    base = to_4bit(torch.nn.Linear(64, 8, bias=False))
    layer, x = LoRA(base, rank=2), draw(rng, 3, 64).bfloat16().requires_grad_(True)
    seen = {}
    base.register_forward_hook(lambda module, given, out: seen.update(x=given[0].dtype, y=out.dtype))
    torch.nn.init.normal_(layer.B)
    layer(x).float().sum().backward()
    bits = {torch.bfloat16: "16 bits", torch.float32: "32 bits", torch.uint8: "4 bits"}  # two indices a byte
    dtypes = (base.packed.dtype, seen["y"], seen["x"], None, layer.A.grad.dtype)
    return dict(zip(ROWS, ("none" if d is None else bits[d] for d in dtypes), strict=True))


SLIPS = {
    "W, between two steps": {
        "16 bits": "that is LoRA's base. QLoRA's is packed between two uses.",
        "32 bits": "that is a plain float32 model. QLoRA's base is packed between two uses.",
        "none": "it must be stored somehow: packed, two indices a byte."},
    "W, where x meets it": {
        "4 bits": "no product is computed in 4 bits: W is looked up and scaled first, in the type of x.",
        "32 bits": "it is dequantised to the type of x, and x has 16 bits.",
        "none": "x meets a W that has just been dequantised."},
    "x": {"4 bits": "the inputs are not rounded. x is not stored, so nothing would be saved.",
          "32 bits": "the model runs in bfloat16.", "none": "x is what the layer before gives."},
    "the gradient of W": {
        "4 bits": "W is not trained, in 4 bits or in any other number.",
        "16 bits": "W is frozen: the gradient goes through it, and none is for it.",
        "32 bits": "W is frozen: the gradient goes through it, and none is for it."},
    "the gradient of A": {
        "4 bits": "A is not quantised: it trains.",
        "16 bits": "A is kept in float32, and a gradient has the type of its "
        "parameter.", "none": "A trains."},
}  # fmt: skip


def row_of(row):
    def test(table, rng):
        said_bits(table)
        want = measured_bits(rng)[row]
        expect(table[row] == want, f"{row}: {SLIPS[row].get(table[row], f'{want} is right.')}")

    return test


def dtypes_with(*words):
    return "bits_of = {\n" + "".join(f'    "{row}": "{word}",\n' for row, word in zip(ROWS, words, strict=True)) + "}"


DTYPES = Exercise(
    name="qlora.dtypes", defines="bits_of", title="Who has how many bits?", tier="core", difficulty=1, minutes=3,
    points=2,
    unlocks="reading a settings file of QLoRA, where all of these are named", kind="value",
    reference=dtypes_with("4 bits", "16 bits", "16 bits", "none", "32 bits"),
    properties=tuple(Property(row, row_of(row), core=True) for row in ROWS),
    hints=("Which of the five is stored from step to step, and which lives for one line?",
           "stored: packed; computed: the type of x; trained: A and B alone",
           '"4 bits", then the type of x twice, ...'),
    remark="Storage, computation and training have three different formats. Most misreadings of QLoRA mix two of them.",
    wrong=(Wrong("computes in 4 bits", dtypes_with("4 bits", "4 bits", "16 bits", "none", "32 bits"),
                 "computed in 4 bits"),
           Wrong("rounds the inputs", dtypes_with("4 bits", "16 bits", "4 bits", "none", "32 bits"), "not rounded"),
           Wrong("trains 4-bit weights", dtypes_with("4 bits", "16 bits", "16 bits", "4 bits", "32 bits"),
                 "not trained"),
           Wrong("W has a gradient", dtypes_with("4 bits", "16 bits", "16 bits", "16 bits", "32 bits"), "frozen"),
           Wrong("everything in 4 bits", dtypes_with(*["4 bits"] * 5), "computed in 4 bits"),
           Wrong("adapters in 4 bits", dtypes_with("4 bits", "16 bits", "16 bits", "none", "4 bits"), "it trains"),
           Wrong("adapters in 16 bits", dtypes_with("4 bits", "16 bits", "16 bits", "none", "16 bits"), "type of its"),
           Wrong("stored in 16 bits", dtypes_with("16 bits", "16 bits", "16 bits", "none", "32 bits"), "LoRA's base"),
           Wrong("in words", dtypes_with("nf4", "16 bits", "16 bits", "none", "32 bits"), "write 4 bits")),
)  # fmt: skip


# 9. A second rounding


def survives_with(again="dequantise(*quantise(W + change, code), code, W.shape)", moved="again - W",
                  end="((moved * change).sum() / change.square().sum()).item()"):  # fmt: skip
    return f"def survives(W, change, code):\n    again = {again}\n    moved = {moved}\n    return {end}"


SURVIVES = Exercise(
    name="qlora.survives", defines="survives", title="What survives a second rounding", tier="full", difficulty=3,
    minutes=8, points=4, unlocks="the measurement of merging into a 4-bit base", reference=survives_with(),
    properties=(Property("the share of the change that is still there", right_fraction, core=True),
                Property("one number, a float", is_a_number, core=True)),
    hints=("W lies on its 16 values. What does it take to move a weight to the next one?",
           "⟨moved, change⟩ / ⟨change, change⟩ with moved = dequantise(quantise(W + change)) - W",
           "again = dequantise(*quantise(...), code, W.shape); moved = ...; return (... / ...).item()"),
    remark="The part along the change is what counts. A norm would also count the noise that rounding adds.",
    wrong=(Wrong("the norms", survives_with(end="(moved.norm() / change.norm()).item()"), "counts noise"),
           Wrong("share that moved", survives_with(end="(moved != 0).float().mean().item()"), "moved by noise"),
           Wrong("W left in", survives_with(moved="again"), "not taken off"),
           Wrong("the change alone", survives_with("dequantise(*quantise(change, code), code, W.shape)", "again"),
                 "only the change"),
           Wrong("nothing rounded", survives_with("W + change"), "nothing was rounded"),
           Wrong("what is lost", survives_with(end="1 - ((moved * change).sum() / change.square().sum()).item()"),
                 "lost"),
           Wrong("the error", survives_with(end="((moved - change).norm() / change.norm()).item()"), "error"),
           Wrong("over what moved", survives_with(end="((moved * change).sum() / moved.square().sum()).item()"),
                 "divided by ⟨moved, moved⟩"),
           Wrong("in per cent", survives_with(end="100 * ((moved * change).sum() / change.square().sum()).item()"),
                 "per cent"),
           Wrong("a cosine", survives_with(end="torch.cosine_similarity(moved.flatten(), change.flatten(), 0).item()"),
                 "cosine"),
           Wrong("a tensor", survives_with(end="(moved * change).sum() / change.square().sum()"), "float"),
           Wrong("one number a row", survives_with(end="(moved * change).sum(1) / change.square().sum(1)"),
                 "whole matrix"),
           Wrong("in place", "def survives(W, change, code):\n    W += change\n"
                 "    moved = dequantise(*quantise(W, code), code, W.shape) - W\n"
                 "    return ((moved * change).sum() / change.square().sum()).item()", "in place")),
)  # fmt: skip


# 10. The constants quantised too

CODE8 = dynamic8()


def some_scales(rng, n=600):
    scale = 0.1 + 0.02 * draw(rng, n).abs()
    scale[10] = 0.01  # the farthest from the mean is below it
    return scale


def mean_first(double, rng):
    scale = some_scales(rng)
    index, largest, mean = three_parts(double, scale, CODE8)
    want = quantize_constants(scale)
    name_the_fault(mean.detach().float().reshape(()), want[2], {
        "that is the largest scale, not the mean.": scale.max(), "no mean came off.": torch.tensor(0.0),
        "that is the middle of the range, not the mean.": (scale.max() + scale.min()) / 2,
        "the zeros that fill up the last block are in that mean. Take it of the scales.": scale.sum() / 768,
    }, "the third part must be the mean of the scales.")  # fmt: skip
    got = largest.detach().float().reshape(-1)
    expect(got.numel() == 3, f"600 scales are 3 blocks of 256, the last one short; {got.numel()} constants came back.")
    whole = torch.nn.functional.pad(scale, (0, 168)).view(3, 256)
    name_the_fault(got, want[1], {
        "the mean was not taken off first: all scales are positive, and half of the code would lie idle.":
            whole.abs().amax(1),
        "max without abs: the largest magnitude may be on the other side of the mean.":
            torch.nn.functional.pad(scale - want[2], (0, 168)).view(3, 256).amax(1),
    }, "the second part must be the largest magnitude of each block of 256, once the mean is off.")  # fmt: skip


def eight_bits(double, rng):
    scale = some_scales(rng)
    index, _, _ = three_parts(double, scale, CODE8)
    expect(index.dtype == torch.uint8, f"the indices are of type {index.dtype}: 8 bits are torch.uint8.")
    expect(2 * index.numel() not in (len(scale), 768), "two indices share a byte: these have 8 bits, a byte each.")
    expect(
        index.numel() == len(scale),
        f"{len(scale)} scales, and {index.numel()} indices: leave out what fills the block.",
    )
    want = quantize_constants(scale)[0]
    wrong = (index.reshape(-1) != want).sum().item()
    near = (index.reshape(-1).int() - want.int()).abs().max().item() if wrong else 0
    expect(wrong <= 1 or near > 1, "each index is at most one off: compare with the middles, not with the values.")
    expect(wrong <= 1, "the index must be that of the value of code8 nearest to (scale - mean) / largest.")


def double_with(
    mean="scale.mean()",
    rows="in_blocks(scale - mean, 256)",
    largest="rows.abs().amax(1, keepdim=True)",
    edges="(code8[:-1] + code8[1:]) / 2",
    end="index.flatten()[: scale.numel()].to(torch.uint8), largest, mean",
):
    return (f"def double(scale, code8):\n    mean = {mean}\n    rows = {rows}\n    largest = {largest}\n"
            f"    index = torch.bucketize(rows * (1 / largest.clamp_min(1e-38)), {edges})\n"
            f"    return {end}")  # fmt: skip


DOUBLE = Exercise(
    name="qlora.double", defines="double", title="Quantise the constants too", tier="stretch", difficulty=4, minutes=10,
    points=4, unlocks="the storage of the reference library, bit for bit", needs=("in_blocks",),
    reference=double_with(),
    properties=(Property("takes the mean off, then a constant for 256 scales", mean_first, core=True),
                Property("8 bits a scale, the nearest value", eight_bits, core=True)),
    hints=("All scales are positive, and code8 has as many values below zero as above. What comes off first?",
           "scale ≈ code8[index] · largest + mean, with largest = max |scale - mean| over 256 scales",
           "mean = scale.mean(); rows = in_blocks(scale - mean, 256); ...; then as in `quantise`, but a byte an index"),
    remark="It is the same function a second time: blocks, largest magnitude, nearest value of a table.",
    wrong=(Wrong("mean left on", double_with(rows="in_blocks(scale, 256)"), "not taken off"),
           Wrong("no mean", double_with(mean="torch.tensor(0.0)"), "no mean"),
           Wrong("max without abs", double_with(largest="rows.amax(1, keepdim=True)"), "max without abs"),
           Wrong("mean of the rows", double_with("in_blocks(scale, 256).mean()"), "fill up"),
           Wrong("quantise again", "def double(scale, code8):\n    mean = scale.mean()\n"
                 "    packed, largest = quantise(scale - mean, code8, 256)\n    return packed, largest, mean",
                 "a byte each"),
           Wrong("one constant", double_with(rows="in_blocks(scale - mean, scale.numel())"), "3 blocks"),
           Wrong("blocks of 64", double_with(rows="in_blocks(scale - mean, 64)"), "3 blocks"),
           Wrong("the middle", double_with(mean="(scale.max() + scale.min()) / 2"), "middle of the range"),
           Wrong("the value above", double_with(edges="code8"), "one off"),
           Wrong("filled up", double_with(end="index.flatten().to(torch.uint8), largest, mean"), "fills the block"),
           Wrong("whole numbers of 64 bits", double_with(end="index.flatten()[: scale.numel()], largest, mean"),
                 "uint8"),
           Wrong("two parts", double_with(end="index.flatten()[: scale.numel()].to(torch.uint8), largest"),
                 "three things")),
)  # fmt: skip

LESSON = Lesson(id="06", slug="qlora", title="Quantisation and QLoRA", requires=("04",), minutes=120,
                exercises=(ABSMAX, NF4, STORED, BITS, ORDER, LINEAR4BIT, QLORA, DTYPES, SURVIVES, DOUBLE))  # fmt: skip
