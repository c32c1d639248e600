"""Lesson 00, Start here: a guess, LoRA's one line, two counts, a class to repair, the six steps, a table to read."""

import inspect

import torch
from torch import nn

from .exercise import Exercise, Lesson, Property, Wrong
from .tools import (
    LORA_SHAPES,
    agrees,
    close,
    draw,
    expect,
    expect_before,
    expect_tensor,
    letters,
    name_the_fault,
    run,
    unchanged,
)

# 1. A first guess


def is_a_share(answer, rng):
    guess, span = answer
    expect(isinstance(span, (tuple, list)) and len(span) == 2, "write the range as two numbers: (low, high).")
    for value in (guess, *span):
        expect(
            isinstance(value, (int, float)) and not isinstance(value, bool),
            f"{value!r} is not a number: leave out quotes and the % sign.",
        )
        expect(0 <= value <= 100, f"{value:,} is no percentage: it lies outside 0 to 100. A count is not a share.")


def range_holds_guess(answer, rng):
    is_a_share(answer, rng)
    guess, (low, high) = answer
    expect(low <= high, "the range is upside down: write (low, high).")
    expect(low <= guess <= high, "your guess lies outside your own range.")
    expect(low < high, "a range of one number claims certainty: make it as wide as your doubt.")


SHARE = Exercise(
    name="00.share", defines="my_guess, my_range", title="A first guess", tier="core", difficulty=1, minutes=2,
    points=1, unlocks="the first comparison of what you expect with what is", kind="prediction",
    reference="my_guess = 1.0\nmy_range = (0.1, 10.0)",
    properties=(Property("gives a guess and a range, in per cent", is_a_share, core=True),
                Property("guesses inside its range", range_holds_guess, core=True)),
    hints=("Two matrices of each layer get a small correction. Are the corrections most of the model, or little?",
           "share = 100 × (numbers that train) / (all numbers), in per cent",
           "my_guess = a number from 0 to 100; my_range = (a lower one, a higher one)"),
    remark="Any guess earns the point. What counts is that it was written down first.",
    wrong=(Wrong("a count, not a percentage", "my_guess = 73728\nmy_range = (10000, 100000)", "no percentage"),
           Wrong("negative", "my_guess = -1\nmy_range = (-2, 1)", "outside 0 to 100"),
           Wrong("with a unit", "my_guess = '1 %'\nmy_range = (0, 5)", "leave out quotes"),
           Wrong("upside down", "my_guess = 1\nmy_range = (5, 0)", "upside down"),
           Wrong("outside its own range", "my_guess = 9\nmy_range = (1, 5)", "outside your own range"),
           Wrong("no doubt at all", "my_guess = 1\nmy_range = (1, 1)", "certainty"),
           Wrong("one number for the range", "my_guess = 1\nmy_range = 5", r"\(low, high\)")),
)  # fmt: skip


# 2. LoRA in one line

NO_BASE = "the frozen layer's own output is missing: LoRA adds to the layer, it does not replace it."
NO_EDIT = "A and B have no effect: the correction is missing."
SCALED_ALL = "scale multiplies the frozen part as well; it belongs to the correction only."
ROUNDED = "x is rounded. It looks like QLoRA, but QLoRA rounds the stored weights; the inputs stay as they are."
SHAPES = f"{LORA_SHAPES} The frozen part of the sum is (..., d_out) as well."
RANK_ONE = "summed over r before the product: that is a rank-1 correction. Multiply matrices, with @."
SCALES = ((1, 0.5), (2, 3.0), (4, 1.5))  # rank, scale


def parts(rng, r, *batch):
    """x, W, b, A, B for a layer from 7 to 5 features."""
    return draw(rng, *batch, 7), draw(rng, 5, 7), draw(rng, 5), draw(rng, r, 7), draw(rng, 5, r)


def starts_frozen(forward, rng):
    for batch in ((), (4,), (2, 3)):
        x, W, b, A, B = parts(rng, 2, *batch)
        got = run(forward, x, W, b, A, torch.zeros_like(B), 2.0, shapes=SHAPES)
        name_the_fault(got, x @ W.T + b, {
            NO_BASE: torch.zeros(*batch, 5),
            "the bias b is missing.": x @ W.T,
            SCALED_ALL: 2 * (x @ W.T + b),
            ROUNDED: torch.round(x * 15) / 15 @ W.T + b,
        }, "with B = 0 the output must be the frozen layer's, x Wᵀ + b.")  # fmt: skip


def adds_correction(forward, rng):
    for r, scale in SCALES:
        x, W, b, A, B = parts(rng, r, 2, 3)
        base, edit = x @ W.T + b, x @ A.T @ B.T
        got = run(forward, x, W, b, A, B, scale, shapes=SHAPES)
        name_the_fault(got, base + scale * edit, {
            NO_EDIT: base,
            "the correction is not multiplied by scale.": base + edit,
            "scale is α/r already: do not divide by r again.": base + scale / r * edit,
            SCALED_ALL: scale * (base + edit),
            NO_BASE: scale * edit,
            ROUNDED: base + scale * torch.round(x * 15) / 15 @ A.T @ B.T,
            RANK_ONE: base + scale * (x @ A.T).sum(-1, keepdim=True) * B.sum(1),
        }, "the correction must be scale · (x Aᵀ) Bᵀ.")  # fmt: skip


def teaches_both(forward, rng):
    x, W, b, A, B = parts(rng, 2, 2, 3)
    A.requires_grad_(True), B.requires_grad_(True)
    got = run(forward, x, W, b, A, B, 2.0)
    expect_tensor(got)
    expect(got.requires_grad, "no gradient comes back: is a detach() or no_grad() around the correction?")
    for name, p in (("A", A), ("B", B)):
        (grad,) = torch.autograd.grad(got.sum(), p, retain_graph=True, allow_unused=True)
        expect(grad is not None, f"no gradient reaches {name}, so it would never train: is something detached?")


def leaves_inputs(forward, rng):
    x, W, b, A, B = parts(rng, 2, 2, 3)
    with unchanged(x=x, W=W, b=b, A=A, B=B):
        expect_tensor(run(forward, x, W, b, A, B, 3.0))


def forward_with(body):
    return "def lora_forward(x, W, b, A, B, scale):\n    " + body.replace("\n", "\n    ")


FORWARD = Exercise(
    name="lora.forward", defines="lora_forward", title="LoRA in one line", tier="core", difficulty=2, minutes=6,
    points=4, unlocks="the class you put into a real model (Exercise 5)", time_limit=2.0,
    reference=forward_with("down = x @ A.T\nup = down @ B.T\nreturn x @ W.T + b + scale * up"),
    properties=(Property("starts as the frozen layer", starts_frozen, core=True),
                Property("adds scale · (x Aᵀ) Bᵀ", adds_correction, core=True),
                Property("A and B get gradients", teaches_both, core=True),
                Property("leaves its inputs as they are", leaves_inputs, core=True)),
    hints=("A is (r, d_in). Which of x @ A and x @ A.T gives r numbers for each input?",
           "y = x Wᵀ + b + scale · (x Aᵀ) Bᵀ",
           "down = x @ (something with A); up = down @ (something with B)"),
    remark="Two thin products, and never the full matrix B A: it has as many numbers as W.",
    wrong=(Wrong("no scale", forward_with("return x @ W.T + b + x @ A.T @ B.T"), "not multiplied by scale"),
           Wrong("base only", forward_with("return x @ W.T + b"), "correction is missing|no gradient"),
           Wrong("edit replaces base", forward_with("return scale * (x @ A.T) @ B.T"), "does not replace"),
           Wrong("no bias", forward_with("return x @ W.T + scale * (x @ A.T) @ B.T"), "bias"),
           Wrong("A B instead of B A", forward_with("return x @ W.T + b + scale * (x @ B) @ A"), "square layers"),
           Wrong("A not transposed", forward_with("return x @ W.T + b + scale * x @ (A @ B)"), "shapes do not fit"),
           Wrong("x in place of the frozen output", forward_with(
               "return x + scale * (x @ A.T) @ B.T"), r"frozen part of the sum is \(\.\.\., d_out\)"),
           Wrong("scale on everything", forward_with("return scale * (x @ W.T + b + x @ A.T @ B.T)"), "frozen part"),
           Wrong("divides by r again", forward_with("return x @ W.T + b + scale / len(A) * x @ A.T @ B.T"), "again"),
           Wrong("rank-1 broadcasting", forward_with(
               "return x @ W.T + b + scale * (x @ A.T).sum(-1, keepdim=True) * B.sum(1)"), "rank-1"),
           Wrong("correction detached", forward_with(
               "return x @ W.T + b + scale * (x @ A.T @ B.T).detach()"), "gradient"),
           Wrong("A under no_grad", forward_with(
               "with torch.no_grad():\n    down = x @ A.T\nreturn x @ W.T + b + scale * down @ B.T"), "reaches A"),
           Wrong("inputs rounded", forward_with(
               "xq = torch.round(x * 15) / 15\nreturn x @ W.T + b + scale * (xq @ A.T) @ B.T"), "QLoRA rounds"),
           Wrong("inputs rounded for both", forward_with(
               "x = torch.round(x * 15) / 15\nreturn x @ W.T + b + scale * (x @ A.T) @ B.T"), "QLoRA rounds"),
           Wrong("W changed in place", forward_with("W += scale * B @ A\nreturn x @ W.T + b"), "in place")),
)  # fmt: skip


# 3 and 4. Counts


def counts_both(count, rng):
    agrees(count, ((10, 5, 8), (7, 12, 3), (384, 1536, 8)), lambda d_in, d_out, r: r * (d_in + d_out), {
        "that is the size of W, which is frozen. Count A and B.": lambda d_in, d_out, r: d_in * d_out,
        "W is counted too, but it is frozen: count A and B only.":
            lambda d_in, d_out, r: d_in * d_out + r * (d_in + d_out),
        "B is missing: it has d_out · r numbers.": lambda d_in, d_out, r: r * d_in,
        "A is missing: it has r · d_in numbers.": lambda d_in, d_out, r: r * d_out,
        "r whole matrices? A is r rows of d_in, and B is d_out rows of r.": lambda d_in, d_out, r: r * d_in * d_out,
        "right for a square layer only: B has d_out · r numbers, not d_in · r.": lambda d_in, d_out, r: 2 * r * d_in,
        "LoRA has no bias of its own.": lambda d_in, d_out, r: r * (d_in + d_out) + d_out,
        "that is one unit of rank; there are r of them.": lambda d_in, d_out, r: d_in + d_out,
    }, "A is (r, d_in), B is (d_out, r).")  # fmt: skip


def count_with(body):
    return f"def lora_count(d_in, d_out, r):\n    return {body}"


COUNT = Exercise(
    name="lora.count", defines="lora_count", title="How many numbers", tier="core", difficulty=1, minutes=1,
    points=2, unlocks="break-even (Exercise 4), and the share you guessed",
    reference=count_with("r * (d_in + d_out)"), properties=(Property("counts A and B", counts_both, core=True),),
    hints=("How many numbers has a matrix of r rows and d_in columns?", "r · d_in + d_out · r", "r * (... + ...)"),
    remark="Linear in r, and in the sum of the sides; W grows with their product.",
    wrong=(Wrong("W itself", count_with("d_in * d_out"), "size of W"),
           Wrong("A only", count_with("r * d_in"), "B is missing"),
           Wrong("B only", count_with("r * d_out"), "A is missing"),
           Wrong("with W", count_with("d_in * d_out + r * (d_in + d_out)"), "W is counted too"),
           Wrong("square only", count_with("2 * r * d_in"), "square layer only"),
           Wrong("r matrices", count_with("r * d_in * d_out"), "r whole matrices"),
           Wrong("with a bias", count_with("r * (d_in + d_out) + d_out"), "no bias"),
           Wrong("one rank", count_with("d_in + d_out"), "one unit of rank")),
)  # fmt: skip


def costs_as_much(rank, rng):
    agrees(rank, ((10, 5), (7, 12), (384, 1536)), lambda d_in, d_out: d_in * d_out / (d_in + d_out), {
        "that is the largest rank W can have. The numbers are used up earlier.": min,
        "upside down: divide the numbers of W by the price of one unit of rank.":
            lambda d_in, d_out: (d_in + d_out) / (d_in * d_out),
        "that counts A alone; one unit of rank costs d_in + d_out.": lambda d_in, d_out: d_out,
        "that counts B alone; one unit of rank costs d_in + d_out.": lambda d_in, d_out: d_in,
        "right for a square layer only: one unit of rank costs d_in + d_out.": lambda d_in, d_out: d_out / 2,
        "do not round: the break-even rank need not be whole (// and int() round as well).":
            lambda d_in, d_out: d_in * d_out // (d_in + d_out),
        "do not round up: the break-even rank need not be whole.":
            lambda d_in, d_out: -(-d_in * d_out // (d_in + d_out)),
    }, "at this rank A and B hold as many numbers as W: r (d_in + d_out) = d_in · d_out.")  # fmt: skip


def break_even_with(body):
    return f"def break_even(d_in, d_out):\n    return {body}"


BREAK_EVEN = Exercise(
    name="lora.break_even", defines="break_even", title="The break-even rank", tier="core", difficulty=2, minutes=2,
    points=2, unlocks="seeing whether a rank fits a layer (Exercise 5)",
    reference=break_even_with("d_in * d_out / (d_in + d_out)"),
    properties=(Property("A and B cost as much as W", costs_as_much, core=True),),
    hints=("One unit of rank costs how many numbers?", "r (d_in + d_out) = d_in · d_out", "... / (d_in + d_out)"),
    remark="On a square layer it is half a side. Useful ranks lie far below it.",
    wrong=(Wrong("largest rank", break_even_with("min(d_in, d_out)"), "largest rank"),
           Wrong("upside down", break_even_with("(d_in + d_out) / (d_in * d_out)"), "upside down"),
           Wrong("A only", break_even_with("d_in * d_out / d_in"), "A alone"),
           Wrong("B only", break_even_with("d_in * d_out / d_out"), "B alone"),
           Wrong("square only", break_even_with("d_in * d_out / (2 * d_in)"), "square layer only"),
           Wrong("rounded", break_even_with("d_in * d_out // (d_in + d_out)"), "do not round"),
           Wrong("rounded up", break_even_with(
               "next(r for r in range(1, d_in) if r * (d_in + d_out) >= d_in * d_out)"), "do not round up"),
           Wrong("mean side", break_even_with("(d_in + d_out) / 4"), "as many numbers as W")),
)  # fmt: skip


# 5. Repair the class


def made(make, rng, r=2, alpha=6.0, bias=True):
    """The answer's layer around a fresh frozen-to-be Linear(7, 5), which is also given."""
    base = nn.Linear(7, 5, bias=bias)
    try:
        inspect.signature(make).bind(base, r, alpha)
    except TypeError:
        raise AssertionError("the class must take the pretrained layer itself: LoRALinear(base, r, alpha).") from None
    layer = make(base, r, alpha)
    expect(isinstance(layer, nn.Module), "LoRALinear must be an nn.Module.")
    return layer, base


def factors(layer, r):
    """A and B, if they are there in the right shapes."""
    for name, shape in (("A", (r, 7)), ("B", (5, r))):
        value = getattr(layer, name, None)
        expect(value is not None, f"there is no self.{name}: the notebook and this check look for A and B.")
        expect(not isinstance(value, nn.Module), f"self.{name} is a module; the matrix is wanted, an nn.Parameter.")
        kind = "a buffer" if name in layer._buffers else "a plain tensor"
        expect(isinstance(value, nn.Parameter), f"self.{name} is {kind}, which no optimiser sees: use nn.Parameter.")
        wanted = "(r, d_in)" if name == "A" else "(d_out, r)"
        expect(tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, wanted {shape}: {wanted}.")
    return layer.A, layer.B


def randomise(layer, rng, r):
    A, B = factors(layer, r)
    with torch.no_grad():
        A.copy_(draw(rng, r, 7)), B.copy_(draw(rng, 5, r))
    return A, B


def keeps_pretrained(make, rng):
    layer, base = made(make, rng)
    held = list(layer.parameters())
    if any(p is base.weight for p in held):
        return
    tensors = [*held, *layer.buffers(), *(v for v in vars(layer).values() if isinstance(v, torch.Tensor))]
    copied = any(t.shape == base.weight.shape and close(t, base.weight) for t in tensors)
    expect(not copied, "the pretrained weights are copied, so they are held twice. Keep the layer: self.base = base.")
    raise AssertionError(
        "the pretrained weights are gone: nn.Linear(...) is a fresh random layer, of a shape that fits. "
        "Keep the layer given: self.base = base."
    )


def freezes(make, rng):
    layer, base = made(make, rng)
    A, B = factors(layer, 2)
    moving = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    trains = base.weight.requires_grad
    expect(not trains, "the base still trains: its name alone freezes nothing. Freeze it: base.requires_grad_(False).")
    others = [name for name, p in moving.items() if p is not A and p is not B]
    expect(not others, f"{' and '.join(others)} trains as well. Freeze all of base, and let only A and B train.")
    expect(len(moving) == 2, "A or B is frozen too, so the correction cannot learn: freeze `base` only.")


def starts_as_base(make, rng):
    for r, bias in ((2, True), (4, False)):
        layer, base = made(make, rng, r=r, bias=bias)
        factors(layer, r)
        x = draw(rng, 2, 3, 7)
        got, want = run(layer, x), base(x)
        expect_tensor(got, "forward")
        random = layer.A.any() and layer.B.any() and not close(got, want)
        expect(not random, "B is random, as weights often are, so the output changes at once. Start B at zero.")
        name_the_fault(got, want, {
            NO_BASE: torch.zeros_like(want),
            ROUNDED: base(torch.round(x * 15) / 15),
        }, "before training the output must be base(x), the pretrained layer's.")  # fmt: skip


def can_learn(make, rng):
    layer, base = made(make, rng)
    A, B = factors(layer, 2)
    expect(
        bool(A.any() or B.any()),
        "A and B are both zero. It looks safe, but the gradient of each holds the other: none moves.",
    )
    randomise(layer, rng, 2)
    x = draw(rng, 2, 3, 7).requires_grad_(True)
    got = run(layer, x)
    expect(not close(got, base(x)), NO_EDIT)
    grads = torch.autograd.grad(got.sum(), (A, B, x), allow_unused=True) if got.requires_grad else (None, None, None)
    reached = all(grad is not None and grad.any() for grad in grads[:2])
    expect(reached, "no gradient reaches A and B: is the correction detached?")
    want = (base.weight + 3.0 * B @ A).sum(0).expand(2, 3, 7)
    expect(grads[2] is not None and close(grads[2], want, 1e-4),
           "the gradient stops here: no_grad() around the base also cuts off every layer below. "
           "Freeze with requires_grad_(False).")  # fmt: skip


def is_linear_in_x(layer, base, rng):
    """Is the correction of a sum the sum of the corrections? Rounding and activations break this."""
    x, y = draw(rng, 4, 7), draw(rng, 4, 7)
    edits = [run(layer, each) - base(each) for each in (x, y, x + y)]
    return close(edits[0] + edits[1], edits[2], 1e-4)


def treats_x_linearly(make, rng):
    layer, base = made(make, rng)
    randomise(layer, rng, 2)
    expect(is_linear_in_x(layer, base, rng),
           "the correction is not linear in x. Is x rounded? QLoRA rounds the stored weights, never the inputs, "
           "and LoRA has no activation in between.")  # fmt: skip


def scales(make, rng):
    for r, alpha in ((2, 6.0), (4, 2.0), (1, 3.0), (8, 16)):
        layer, base = made(make, rng, r, alpha)
        A, B = randomise(layer, rng, r)
        x = draw(rng, 2, 3, 7)
        edit, scale = x @ A.T @ B.T, alpha / r
        name_the_fault(run(layer, x) - base(x), scale * edit, {
            "the correction is multiplied by α; it must be α / r, or it grows with the rank.": alpha * edit,
            "the correction is not scaled: multiply by α / r.": edit,
            "// rounds down: the scale is α / r, with one slash.": alpha // r * edit,
            "divided by r twice: the scale is α / r.": scale / r * edit,
            "that is α / √r, the rank-stabilised variant. LoRA divides by r.": alpha / r**0.5 * edit,
            "upside down: the scale is α / r, not r / α.": edit / scale,
            RANK_ONE: scale * (x @ A.T).sum(-1, keepdim=True) * B.sum(1),
            NO_EDIT: torch.zeros_like(edit),
        }, "the correction must be α / r · (x Aᵀ) Bᵀ.")  # fmt: skip


GOOD = {
    "start": "super().__init__()",
    "base": "self.base = base.requires_grad_(False)",
    "A": "self.A = nn.Parameter(torch.randn(r, base.in_features) / base.in_features**0.5)",
    "B": "self.B = nn.Parameter(torch.zeros(base.out_features, r))",
    "scale": "self.scale = alpha / r",
    "forward": "return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T",
}


def layer_with(**faults):
    """The reference's class with some of its lines replaced."""
    lines = {part: text.replace("\n", "\n        ") for part, text in {**GOOD, **faults}.items()}
    *init, forward = (f"        {text}" for text in lines.values() if text)
    return "\n".join(["class LoRALinear(nn.Module):", "    def __init__(self, base, r, alpha):", *init, "",
                      "    def forward(self, x):", forward])  # fmt: skip


COPIED = """class LoRALinear(nn.Module):
    def __init__(self, d_in, d_out, r, alpha):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.A = nn.Parameter(torch.randn(r, d_in))
        self.B = nn.Parameter(torch.randn(d_out, r))
        self.alpha = alpha

    def forward(self, x):
        return self.linear(x) + self.alpha * (x @ self.A.T) @ self.B.T"""
FRESH = "self.base = nn.Linear(base.in_features, base.out_features).requires_grad_(False)"
COPY = "self.base = nn.Linear(base.in_features, base.out_features, base.bias is not None).requires_grad_(False)\n"
REPAIR = Exercise(
    name="lora.repair", defines="LoRALinear", title="Repair the class", tier="core", difficulty=4, minutes=8, points=6,
    unlocks="the experiment: your class goes into a real model", needs=("torch", "nn"), reference=layer_with(),
    properties=(Property("keeps the pretrained layer", keeps_pretrained, core=True),
                Property("trains A and B, and nothing else", freezes, core=True),
                Property("starts as the pretrained layer", starts_as_base, core=True),
                Property("treats x linearly", treats_x_linearly, core=True),
                Property("scales by α / r", scales, core=True),
                Property("can learn, and lets the layers below learn", can_learn, core=True)),
    hints=("Go through the copied class line by line: what did the pretrained model have here?",
           "y = base(x) + (α / r) · (x Aᵀ) Bᵀ with base frozen, A random, B zero",
           "self.base = base...; self.A = nn.Parameter(...(r, base.in_features)); self.B = ...; self.scale = ..."),
    remark="The layer is taken as it is, not built anew. Everything else follows from that.",
    wrong=(Wrong("alpha, not alpha / r", layer_with(scale="self.scale = alpha"), "multiplied by α; it must be α / r"),
           Wrong("both zero", layer_with(A="self.A = nn.Parameter(torch.zeros(r, base.in_features))"), "both zero"),
           Wrong("B random", layer_with(B="self.B = nn.Parameter(torch.randn(base.out_features, r))"), "B is random"),
           Wrong("fresh base", layer_with(base=FRESH), "fresh random layer"),
           Wrong("base trainable", layer_with(base="self.base = base"), "Freeze it: base"),
           Wrong("bias trainable", layer_with(base="self.base = base\nbase.weight.requires_grad = False"),
                 "base.bias trains as well"),
           Wrong("scale trainable", layer_with(scale="self.scale = nn.Parameter(torch.tensor(alpha / r))"),
                 "scale trains as well"),
           Wrong("inputs rounded in the correction", layer_with(
               forward="xq = torch.round(x * 15) / 15\nreturn self.base(x) + self.scale * (xq @ self.A.T) @ self.B.T"),
               "never the inputs"),
           Wrong("inputs rounded", layer_with(
               forward="x = torch.round(x * 15) / 15\nreturn self.base(x) + self.scale * (x @ self.A.T) @ self.B.T"),
               "QLoRA rounds"),
           Wrong("ReLU between", layer_with(
               forward="return self.base(x) + self.scale * torch.relu(x @ self.A.T) @ self.B.T"), "no activation"),
           Wrong("A B instead of B A", layer_with(
               forward="return self.base(x) + self.scale * (x @ self.B) @ self.A"), "square layers only"),
           Wrong("rank-1 broadcasting", layer_with(
               forward="return self.base(x) + self.scale * (x @ self.A.T).sum(-1, keepdim=True) * self.B.sum(1)"),
               "rank-1"),
           Wrong("correction detached", layer_with(
               forward="return self.base(x) + (self.scale * (x @ self.A.T) @ self.B.T).detach()"), "detached"),
           Wrong("base under no_grad", layer_with(
               forward="with torch.no_grad():\n    y = self.base(x)\nreturn y + self.scale * x @ self.A.T @ self.B.T"),
               "every layer below"),
           Wrong("base only", layer_with(forward="return self.base(x)"), "no effect"),
           Wrong("edit replaces base", layer_with(forward="return self.scale * (x @ self.A.T) @ self.B.T"),
                 "does not replace"),
           Wrong("divided twice", layer_with(scale="self.scale = alpha / r / r"), "twice"),
           Wrong("square root", layer_with(scale="self.scale = alpha / r**0.5"), "rank-stabilised"),
           Wrong("upside down", layer_with(scale="self.scale = r / alpha"), "upside down"),
           Wrong("no scale", layer_with(scale="self.scale = 1"), "not scaled"),
           Wrong("A a buffer", layer_with(A="self.register_buffer('A', torch.randn(r, base.in_features))"), "a buffer"),
           Wrong("A a tensor", layer_with(A="self.A = torch.randn(r, base.in_features)"), "a plain tensor"),
           Wrong("base copied", layer_with(base=COPY + "self.base.load_state_dict(base.state_dict())"), "copied"),
           Wrong("all frozen", layer_with(scale="self.scale = alpha / r\nself.requires_grad_(False)"), "frozen too"),
           Wrong("rounded down", layer_with(scale="self.scale = alpha // r"), "rounds down"),
           Wrong("the copied class as it was", COPIED, "must take the pretrained layer"),
           Wrong("no super().__init__()", layer_with(start=""), r"Module\.__init__|super")),
)  # fmt: skip


# 6. The six steps

STEPS = {"C": "base", "H": "parameters", "E": "budget", "A": "train", "G": "evaluate", "D": "deploy and monitor"}


def six_of_eight(order, rng):
    found = letters(order, '"C", "A"')
    expect("B" not in found, "B is no step: who tests each epoch chooses by the test set, and its score is too good.")
    expect("F" not in found, "F is no step: a paper's rate fits its model, data and method. Choose yours on dev.")
    expect(len(found) == 6, f"six steps are wanted; you gave {len(found)}.")
    expect(len(set(found)) == 6, "a letter comes twice.")
    expect(set(found) == set(STEPS), "use the letters A to H.")


def in_order(order, rng):
    found = letters(order, '"C", "A"')
    expect(found[:1] == ["C"], "the base comes first: it is what you freeze and adapt.")
    before = [("H", "E", "choose the parameters before you fix the budget: they decide what a step costs."),
              ("E", "A", "fix the budget before you train, or methods are compared at unequal cost."),
              ("A", "G", "evaluate after training: the test set is touched once, at the end."),
              ("G", "D", "evaluate before you deploy: nobody ships what was never measured.")]  # fmt: skip
    expect_before(found, before)


ORDER = Exercise(
    name="project.order", defines="order", title="The six steps of a project", tier="full", difficulty=1, minutes=3,
    points=2, unlocks="the map of the course", kind="order", reference='order = ["C", "H", "E", "A", "G", "D"]',
    properties=(Property("has the six steps, and only them", six_of_eight, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("Which step must exist before anything can be frozen? Which two of the eight are bad habits?",
           "base, parameters, budget, train, evaluate, deploy and monitor", 'order = ["C", "H", ...]'),
    remark="Choices are made on the dev set while training; the test set is read once.",
    wrong=(Wrong("tests each epoch", 'order = ["C", "H", "E", "A", "B", "D"]', "too good"),
           Wrong("rate from the paper", 'order = ["C", "H", "F", "E", "A", "G", "D"]', "paper's rate"),
           Wrong("trains, then budgets", 'order = ["C", "H", "A", "E", "G", "D"]', "unequal cost"),
           Wrong("deploys, then evaluates", 'order = ["C", "H", "E", "A", "D", "G"]', "ships"),
           Wrong("parameters before base", 'order = ["H", "C", "E", "A", "G", "D"]', "base comes first"),
           Wrong("budget before parameters", 'order = ["C", "E", "H", "A", "G", "D"]', "what a step costs"),
           Wrong("one missing", 'order = ["C", "H", "E", "A", "G"]', "you gave 5"),
           Wrong("by alphabet", 'order = ["A", "C", "D", "E", "G", "H"]', "base comes first"),
           Wrong("as words", 'order = ["base", "parameters", "budget", "train", "evaluate", "deploy"]', "letters")),
)  # fmt: skip


# 7. Read the table


def reading(verdict, rng, **table):
    """What the answer says about rows of (low, high), the other rows being drawn at random."""
    full = {row: table.get(row) or span(rng) for row in ("accuracy", "bytes", "seconds")}
    given = dict(full)
    said = verdict(given)
    expect(given == full, "it wrote into the table it was given, which is then lost: fill a dict of its own.")
    expect(said is not None, "None came back: is a `return` missing?")
    expect(isinstance(said, dict) and set(said) == set(full), "return a dict with the table's own rows as keys.")
    for row, word in said.items():
        expect(word in ("better", "same", "worse"), f"{row} is {word!r}; the words are better, same and worse.")
    return said


def span(rng, sign=0):
    """An interval below zero (sign -1), above it (1) or around it (0); its middle is not at zero."""
    a, b = (0.5 + torch.rand(2, generator=rng) * 3).tolist()
    return {-1: (-a - b, -a), 0: (-a, a + b) if rng.initial_seed() % 2 else (-a - b, a), 1: (a, a + b)}[sign]


def same_inside(verdict, rng):
    for row in ("accuracy", "bytes", "seconds"):
        for low, high in ((-2.0, 0.4), (-0.3, 1.9), (-40.0, 35.0), (0.0, 0.0)):
            said = reading(verdict, rng, **{row: (low, high)})[row]
            expect(said == "same", f"{row} from {low:+g} to {high:+g}: zero lies inside, so this test sees no "
                                   f"difference. Your answer is {said!r}.")  # fmt: skip


def tells(verdict, rng, row, sign, want, why):
    for size in (0.01, 1.0, 1e6):  # the width says nothing about the side
        low, high = (size * edge for edge in span(rng, sign))
        said = reading(verdict, rng, **{row: (low, high)})[row]
        side = "above" if sign > 0 else "below"
        place = f"{row} from {low:+.3g} to {high:+.3g} lies wholly {side} zero"
        expect(said == want, f"{place}: {why}. Your answer is {said!r}.")


def accuracy_up(verdict, rng):
    tells(verdict, rng, "accuracy", 1, "better", "LoRA is more often right, which is better")
    tells(verdict, rng, "accuracy", -1, "worse", "LoRA is less often right, which is worse")


def costs_down(verdict, rng):
    for row in ("bytes", "seconds"):
        tells(verdict, rng, row, -1, "better", "a lower cost is better")
        tells(verdict, rng, row, 1, "worse", "a higher cost is worse")


def verdict_with(rule):
    return ("def verdict(table):\n    words = {}\n    for row, (low, high) in table.items():\n        "
            + rule.replace("\n", "\n        ") + "\n    return words")  # fmt: skip


BY_SIDE = '    words[row] = "better" if (low > 0) == (row == "accuracy") else "worse"'
VERDICT = Exercise(
    name="compare.verdict", defines="verdict", title="Read the table", tier="core", difficulty=3, minutes=5, points=3,
    unlocks="a verdict on your own runs, here and in every later lesson",
    reference=verdict_with('if low <= 0 <= high:\n    words[row] = "same"\nelse:\n' + BY_SIDE),
    properties=(Property("says same where zero lies inside", same_inside, core=True),
                Property("a higher accuracy is better", accuracy_up, core=True),
                Property("fewer bytes and seconds are better", costs_down, core=True)),
    hints=("An interval reaches from -2 to +0.4. Which values of the true difference does it allow?",
           "same: low <= 0 <= high. Otherwise the whole interval is on one side of zero: which side is good?",
           "for row, (low, high) in table.items(): three cases, one word each"),
    remark="Same means that this test sees no difference. It does not prove that there is none.",
    wrong=(Wrong("the middle decides", verdict_with('better = (low + high > 0) == (row == "accuracy")\n'
                 'words[row] = "better" if better else "worse"'), "zero lies inside"),
           Wrong("same is impossible", verdict_with(BY_SIDE.strip()), "zero lies inside"),
           Wrong("more is always better", verdict_with('words[row] = "same" if low <= 0 <= high else '
                 '"better" if low > 0 else "worse"'), "lower cost is better|higher cost"),
           Wrong("less is always better", verdict_with('words[row] = "same" if low <= 0 <= high else '
                 '"worse" if low > 0 else "better"'), "which is better|which is worse"),
           Wrong("only bytes turned round", verdict_with('good = low > 0 if row != "bytes" else high < 0\n'
                 'words[row] = "same" if low <= 0 <= high else "better" if good else "worse"'), "seconds from"),
           Wrong("a margin of one", verdict_with('if max(abs(low), abs(high)) < 1 or low <= 0 <= high:\n'
                 '    words[row] = "same"\nelse:\n' + BY_SIDE), "wholly"),
           Wrong("hopeful", verdict_with('if row == "accuracy":\n    words[row] = "better" if high > 0 else "worse"\n'
                 'else:\n    words[row] = "better" if low < 0 else "worse"'), "zero lies inside"),
           Wrong("always same", verdict_with('words[row] = "same"'), "wholly"),
           Wrong("in other words", verdict_with('words[row] = "equal" if low < 0 < high else "other"'), "the words"),
           Wrong("writes into the table", verdict_with(
               'words = table\nif low <= 0 <= high:\n    words[row] = "same"\nelse:\n' + BY_SIDE), "wrote into"),
           Wrong("no return", "def verdict(table):\n    words = dict.fromkeys(table, 'same')", "return")),
)  # fmt: skip

LESSON = Lesson(id="00", slug="start_here", title="Start here", requires=(), minutes=30,
                exercises=(SHARE, FORWARD, COUNT, BREAK_EVEN, REPAIR, ORDER, VERDICT))  # fmt: skip
