"""Lesson 04, LoRA: cut a change to its top ranks, order the forward, the layer, its first gradients, the merge, GPT-2's
layer, a rank for a budget, a probe for gradients, the embedding."""

import copy

import torch
from torch import nn

from ..methods.lowrank.lora import LoRA
from .exercise import Exercise, Lesson, Property, Wrong
from .lora_layers import (
    class_with,
    conv_adds,
    conv_change,
    conv_starts,
    emb_adds,
    emb_change,
    emb_starts,
    learns,
    linear_base,
    owns_two,
    scales,
    starts_as_base,
    tells_its_change,
    unseen_stay,
)
from .lora_model import fits, gives_norms, is_whole, leaves_gradients, names_them, tells_none
from .tools import close, draw, expect, expect_before, expect_tensor, letters, name_the_fault, run, unchanged

# 1. The best low-rank part of a change


def two_factors(truncate, dW, r):
    """B and A in their shapes."""
    got = run(truncate, dW, r, shapes="the shapes do not fit: U is (d_out, k), S is (k), Vh is (k, d_in).")
    pair = isinstance(got, (tuple, list)) and len(got) == 2
    expect(pair, "return two matrices, B and A; their product is made where it is needed.")
    B, A = got
    expect_tensor(B, "the first part"), expect_tensor(A, "the second part")
    d_out, d_in = dW.shape
    swapped = tuple(B.shape) == (r, d_in) and tuple(A.shape) == (d_out, r)
    expect(not swapped, "A and B are swapped: return (B, A), as in B A.")
    whole = tuple(B.shape) == (d_out, min(d_out, d_in)) != (d_out, r)
    expect(not whole, "every rank is kept: take the first r columns of U, of S and of the rows of Vh.")
    for name, value, shape in (("B", B, (d_out, r)), ("A", A, (r, d_in))):
        expect(tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, wanted {shape}. (torch.linalg.svd "
               "gives Vh, whose rows are wanted; the older torch.svd gives V.)")  # fmt: skip
    return B, A


def has_shapes(truncate, rng):
    for shape, r in (((5, 7), 2), ((7, 5), 3), ((6, 4), 1)):
        dW = draw(rng, *shape)
        with unchanged(dW=dW):
            two_factors(truncate, dW, r)


def is_the_best(truncate, rng):
    for shape, r in (((5, 7), 2), ((7, 5), 3), ((6, 9), 1)):
        dW = draw(rng, *shape)
        B, A = two_factors(truncate, dW, r)
        U, S, Vh = torch.linalg.svd(dW, full_matrices=False)
        last = len(S) - r
        name_the_fault(B @ A, U[:, :r] * S[:r] @ Vh[:r], {
            "S is missing: U and V have columns of length one, and say nothing about size.": U[:, :r] @ Vh[:r],
            "S comes in twice: give each side its root.": U[:, :r] * S[:r] ** 2 @ Vh[:r],
            "only one side has the root of S, so B A has √S in place of S.": U[:, :r] * S[:r].sqrt() @ Vh[:r],
            "those are the r smallest pieces. S falls: take the first r.": U[:, last:] * S[last:] @ Vh[last:],
            "those are r columns of ΔW itself, not its r strongest directions.":
                torch.cat((dW[:, :r], torch.zeros(shape[0], shape[1] - r)), 1),
        }, "B A must be U S Vᵀ with the r largest singular values: nothing of rank r is nearer.")  # fmt: skip


def shares_the_root(truncate, rng):
    dW = draw(rng, 5, 7)
    B, A = two_factors(truncate, dW, 3)
    S = torch.linalg.svdvals(dW)[:3]
    sizes = B.square().sum(0), A.square().sum(1)
    for name, mine, other in (("B", *sizes), ("A", sizes[1], sizes[0])):
        uneven = close(mine, S**2) and close(other, torch.ones(3))
        expect(not uneven, f"all of S is in {name}. The product is right, but give each factor √S: equal shares.")
    for size in sizes:  # squared lengths
        name_the_fault(size, S, {}, "the columns of B, and the rows of A, should each have the length √S.")


def truncate_with(body):
    return ("def truncate(dW, r):\n    U, S, Vh = torch.linalg.svd(dW, full_matrices=False)\n    "
            + body.replace("\n", "\n    "))  # fmt: skip


TRUNCATE = Exercise(
    name="lora.truncate", defines="truncate", title="The best part of a given rank", tier="core", difficulty=2,
    minutes=8, points=3, unlocks="both experiments on the change of full fine-tuning",
    reference=truncate_with("root = S[:r].sqrt()\nreturn U[:, :r] * root, root[:, None] * Vh[:r]"),
    properties=(Property("B is (d_out, r) and A is (r, d_in)", has_shapes, core=True),
                Property("B A is the best of its rank", is_the_best, core=True),
                Property("each factor has the root of S", shares_the_root, core=True)),
    hints=("torch.linalg.svd gives U, S and Vh, with S falling. Which columns and rows belong to the r largest?",
           "B = U_r √S_r and A = √S_r V_rᵀ, so that B A = U_r S_r V_rᵀ",
           "root = ...; return U[:, :r] * ..., ...[:, None] * Vh[:r]"),
    remark="Multiplying columns by a vector is cheaper than building a diagonal matrix, and says the same.",
    wrong=(Wrong("all of S in B", truncate_with("return U[:, :r] * S[:r], Vh[:r]"), "all of S is in B"),
           Wrong("all of S in A", truncate_with("return U[:, :r], S[:r, None] * Vh[:r]"), "all of S is in A"),
           Wrong("S forgotten", truncate_with("return U[:, :r], Vh[:r]"), "S is missing"),
           Wrong("S twice", truncate_with("return U[:, :r] * S[:r], S[:r, None] * Vh[:r]"), "twice"),
           Wrong("one root", truncate_with("return U[:, :r] * S[:r].sqrt(), Vh[:r]"), "only one side"),
           Wrong("the smallest", truncate_with(
               "root = S[-r:].sqrt()\nreturn U[:, -r:] * root, root[:, None] * Vh[-r:]"), "smallest"),
           Wrong("A and B swapped", truncate_with(
               "root = S[:r].sqrt()\nreturn root[:, None] * Vh[:r], U[:, :r] * root"), "swapped"),
           Wrong("V for Vh", "def truncate(dW, r):\n    U, S, V = torch.svd(dW)\n    root = S[:r].sqrt()\n"
                 "    return U[:, :r] * root, root[:, None] * V[:r]", "gives V"),
           Wrong("the product", truncate_with("return U[:, :r] * S[:r] @ Vh[:r]"), "two matrices"),
           Wrong("every rank", truncate_with("root = S.sqrt()\nreturn U * root, root[:, None] * Vh"), "every rank"),
           Wrong("columns of the matrix", "def truncate(dW, r):\n    return dW[:, :r], torch.eye(r, dW.shape[1])",
                 "columns of ΔW"),
           Wrong("in place", "def truncate(dW, r):\n    U, S, Vh = torch.linalg.svd(dW, full_matrices=False)\n"
                 "    root = S[:r].sqrt()\n    dW -= U[:, :r] * S[:r] @ Vh[:r]\n"
                 "    return U[:, :r] * root, root[:, None] * Vh[:r]", "in place")),
)  # fmt: skip


# 2. The forward, in order

LINES = {"C": "dropped", "F": "down", "A": "up", "D": "return"}


def four_of_eight(order, rng):
    found = letters(order, '"C", "A"', last="H")
    expect("B" not in found, "B scales by α alone: then the change grows with the rank. Which line divides by r?")
    expect("G" not in found, "G multiplies by r: the change grows with the rank twice over. Which line divides by r?")
    expect("E" not in found, "E drops outputs of B. LoRA's dropout thins the input of A, so that B stays whole.")
    expect("H" not in found, "H drops the frozen layer's input as well, and so changes the pretrained path.")
    expect(len(set(found)) == len(found), "a letter comes twice.")
    expect(len(found) == 4, f"four lines are wanted; you gave {len(found)}.")


def in_order(order, rng):
    found = letters(order, '"C", "A"', last="H")
    expect_before(found, (("C", "F", "`dropped` is used in F, so C comes before it."),
                                ("F", "A", "`down` is used in A, so F comes before it: A (the matrix) first, then B."),
                                ("A", "D", "nothing after a return is run: D is the last line.")))  # fmt: skip


ORDER = Exercise(
    name="lora.order", defines="order", title="Order the forward", tier="core", difficulty=1, minutes=3, points=2,
    unlocks="the lines that you write next", kind="order", reference='order = ["C", "F", "A", "D"]',
    properties=(Property("has the four lines, and only them", four_of_eight, core=True),
                Property("has them in order", in_order, core=True)),
    hints=("Which number does the correction need so that a larger rank is not a larger change?",
           "y = base(x) + (α / r) · (dropout(x) Aᵀ) Bᵀ", 'order = ["C", ...], four letters'),
    remark="Dropout sits before A: every rank sees the same thinned input, and the frozen path sees all of it.",
    wrong=(Wrong("alpha alone", 'order = ["C", "F", "A", "B"]', "grows with the rank"),
           Wrong("alpha times r", 'order = ["C", "F", "A", "G"]', "twice over"),
           Wrong("dropout after B", 'order = ["F", "E", "D"]', "thins the input of A"),
           Wrong("dropout on the frozen path", 'order = ["C", "F", "A", "H"]', "pretrained path"),
           Wrong("B before A", 'order = ["C", "A", "F", "D"]', "F comes before"),
           Wrong("drops too late", 'order = ["F", "C", "A", "D"]', "C comes before"),
           Wrong("returns early", 'order = ["C", "F", "D", "A"]', "D is the last"),
           Wrong("no dropout", 'order = ["F", "A", "D"]', "you gave 3"),
           Wrong("as code", 'order = ["dropped", "down", "up", "return"]', "letters")),
)  # fmt: skip


# 3. The layer

GOOD = {
    "base": "super().__init__(base)",
    "A": "self.A = nn.Parameter(torch.randn(r, base.in_features) / base.in_features**0.5)",
    "B": "self.B = nn.Parameter(torch.zeros(base.out_features, r))",
    "scale": "self.scale = alpha / r",
    "forward": "return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T",
    "change": "return self.scale * self.B @ self.A",
}


def layer_with(**faults):
    return class_with("LoRALinear", GOOD, **faults)


LAYER = Exercise(
    name="lora.layer", defines="LoRALinear", title="The layer", tier="core", difficulty=3, minutes=12, points=5,
    unlocks="training, merging and everything that follows", needs=("torch", "nn", "Adapter"), reference=layer_with(),
    properties=(Property("trains A and B, and nothing else", owns_two, core=True),
                Property("starts as the pretrained layer", starts_as_base, core=True),
                Property("scales by α / r", scales, core=True),
                Property("both factors get a gradient", learns, core=True),
                Property("change() is what was learned", tells_its_change, core=True)),
    hints=("Which factor must be zero so that nothing changes, and which must not, so that something can learn?",
           "y = base(x) + (α / r) · (x Aᵀ) Bᵀ with A random, B zero; change = (α / r) · B A",
           "self.B = nn.Parameter(torch.zeros(...)); self.scale = ...; return self.base(x) + self.scale * ..."),
    remark="The rank appears in two shapes and one division, and nowhere else.",
    wrong=(Wrong("alpha, not alpha / r", layer_with(scale="self.scale = alpha"), "multiplied by α; it must be α / r",
                 museum="α not divided by r"),
           Wrong("both zero", layer_with(A="self.A = nn.Parameter(torch.zeros(r, base.in_features))"), "both zero",
                 museum="A and B both zero"),
           Wrong("A B instead of B A", layer_with(
               forward="return self.base(x) + self.scale * (x @ self.B) @ self.A"), "square layers only",
                 museum="A B instead of B A"),
           Wrong("both random", layer_with(B="self.B = nn.Parameter(torch.randn(base.out_features, r))"),
                 "both random"),
           Wrong("a whole scale", layer_with(scale="self.scale = alpha // r"), "fraction"),
           Wrong("alpha times r", layer_with(scale="self.scale = alpha * r"), "Divide by r"),
           Wrong("upside down", layer_with(scale="self.scale = r / alpha"), "upside down"),
           Wrong("square root", layer_with(scale="self.scale = alpha / r**0.5"), "rank-stabilised"),
           Wrong("no scale", layer_with(scale="self.scale = 1"), "not scaled"),
           Wrong("scale on everything", layer_with(
               forward="return self.scale * (self.base(x) + x @ self.A.T @ self.B.T)"), "frozen part"),
           Wrong("edit replaces base", layer_with(forward="return self.scale * (x @ self.A.T) @ self.B.T"),
                 "does not replace"),
           Wrong("base only", layer_with(forward="return self.base(x)"), "no effect"),
           Wrong("fresh base", layer_with(base="super().__init__(nn.Linear(base.in_features, base.out_features))"),
                 "fresh"),
           Wrong("base set free again", layer_with(base="super().__init__(base)\nbase.requires_grad_(True)"),
                 "leave it frozen"),
           Wrong("correction detached", layer_with(
               forward="return self.base(x) + (self.scale * (x @ self.A.T) @ self.B.T).detach()"), "detached"),
           Wrong("A a buffer", layer_with(A="self.register_buffer('A', torch.randn(r, base.in_features))"), "a buffer"),
           Wrong("B the wrong way round", layer_with(
               B="self.B = nn.Parameter(torch.zeros(r, base.out_features))",
               forward="return self.base(x) + self.scale * (x @ self.A.T) @ self.B",
               change="return self.scale * self.B.T @ self.A"), r"\(d_out, r\)"),
           Wrong("change without scale", layer_with(change="return self.B @ self.A"), "not scaled"),
           Wrong("change the other way round", layer_with(change="return self.scale * (self.B @ self.A).T"),
                 "stores"),
           Wrong("the whole weight", layer_with(change="return self.base.weight + self.scale * self.B @ self.A"),
                 "what is added"),
           Wrong("change as A B", layer_with(change="return self.scale * self.A @ self.B"), "not A B"),
           Wrong("frozen altogether", layer_with(scale="self.scale = alpha / r\nself.requires_grad_(False)"),
                 "frozen too")),
)  # fmt: skip


# 4. The first gradients

ROWS = {"A random, B zero": (True, False), "A zero, B random": (False, True), "both zero": (False, False),
        "both random": (True, True)}  # fmt: skip


def whose_gradient_is_zero(rng, a, b):
    """A, B, both or none, by autograd on a layer from 7 to 5 features."""
    A, B = draw(rng, 2, 7) * a, draw(rng, 5, 2) * b
    A.requires_grad_(True), B.requires_grad_(True)
    loss = (draw(rng, 4, 7) @ A.T @ B.T - draw(rng, 4, 5)).pow(2).mean()
    grads = torch.autograd.grad(loss, (A, B))
    return {(False, False): "both", (False, True): "A", (True, False): "B", (True, True): "none"}[
        tuple(bool(grad.any()) for grad in grads)
    ]


def words_of(table):
    expect(isinstance(table, dict) and set(table) == set(ROWS), "keep the four rows of the table as they are.")
    for row, word in table.items():
        expect(word in ("A", "B", "both", "none"), f"{row!r} is {word!r}; write A, B, both or none.")


def says_words(table, rng):
    words_of(table)


def row_of(row, slips):
    """The test of one row; `slips` says why a wrong word tempts."""

    def test(table, rng):
        words_of(table)
        want = whose_gradient_is_zero(rng, *ROWS[row])
        expect(table[row] == want, slips.get(table[row], "the gradient of A is s Bᵀ G, that of B is s G Aᵀ."))

    return test


OTHER_WAY = "that names the factor which is zero. Its gradient holds the *other* factor, and that one is not zero."
GRADIENTS = Exercise(
    name="lora.gradients", defines="zero_gradients", title="Which gradients are zero?", tier="core", difficulty=2,
    minutes=6, points=2, unlocks="the choice of the start, and the fault that trains nothing", kind="value",
    reference="zero_gradients = {\n    \"A random, B zero\": \"A\",\n    \"A zero, B random\": \"B\",\n"
              "    \"both zero\": \"both\",\n    \"both random\": \"none\",\n}",
    properties=(Property("answers in words", says_words, core=True),
                Property("A random, B zero", row_of("A random, B zero", {
                    "B": OTHER_WAY, "none": "the product B A is flat in A while B is zero: A gets exactly zero.",
                    "both": "B does get a gradient, because A is not zero: this start learns."}), core=True),
                Property("A zero, B random", row_of("A zero, B random", {
                    "A": OTHER_WAY, "none": "the product B A is flat in B while A is zero: B gets exactly zero.",
                    "both": "A does get a gradient, because B is not zero: this start learns."}), core=True),
                Property("both zero", row_of("both zero", {
                    "none": "each gradient holds the other factor, which is zero: neither ever moves."}), core=True),
                Property("both random", row_of("both random", {
                    "A": "neither factor is zero, so neither gradient is.",
                    "B": "neither factor is zero, so neither gradient is.",
                    "both": "both learn. The fault of this start is another one: it changes the output at once."}),
                    core=True)),
    hints=("In a product, what does the derivative by one factor contain?",
           "dL/dA = s Bᵀ G and dL/dB = s G Aᵀ, where G is the gradient of the change", "look at the *other* factor"),
    remark="One factor at zero is the only start that both leaves the model as it is and learns.",
    wrong=tuple(Wrong(name, f"zero_gradients = dict(zip({list(ROWS)}, {words}))", says) for name, words, says in (
        ("the zero factor itself", ["B", "A", "both", "none"], "names the factor"),
        ("none anywhere", ["none"] * 4, "flat in A"),
        ("both zero still learns", ["A", "B", "none", "none"], "neither ever moves"),
        ("one zero stops all", ["both", "both", "both", "none"], "this start learns"),
        ("random means none learns", ["A", "B", "both", "both"], "changes the output at once"),
        ("by symmetry, always A", ["A", "A", "both", "none"], "names the factor"),
        ("booleans", [True, False, True, False], "A, B, both or none"),
    )) + (Wrong("a row left out", "zero_gradients = {'both zero': 'both'}", "four rows"),),
)  # fmt: skip


# 5. Merging


def lora_layer(rng, r=3, alpha=7.0, bias=True, size=1.0):
    """A LoRA from 7 to 5 features with something learned."""
    layer = LoRA(linear_base(rng, bias), rank=r, alpha=alpha)
    with torch.no_grad():
        layer.A.copy_(size * draw(rng, r, 7)), layer.B.copy_(size * draw(rng, 5, r))
    return layer


def merged_by(answer, layer):
    plain = run(answer[0], layer, shapes="the shapes do not fit: the weight is (d_out, d_in), and so is B A.")
    expect(plain is not None, "merge_layer returned None: is a `return` missing?")
    expect(isinstance(plain, nn.Module), f"merge_layer returned {type(plain).__name__}; an nn.Linear is wanted.")
    expect(plain is not layer, "merge_layer returned the adapted layer itself; a plain nn.Linear is wanted.")
    return plain


NEW_LINEAR = "a new nn.Linear is float32 unless dtype= says otherwise. Or copy the frozen layer."


def is_plain(answer, rng):
    plain = merged_by(answer, lora_layer(rng))
    expect(type(plain) is nn.Linear, f"a {type(plain).__name__} came back; a plain nn.Linear is wanted.")
    expect(tuple(plain.weight.shape) == (5, 7), f"its weight is {tuple(plain.weight.shape)}; wanted (5, 7).")
    plain = merged_by(answer, lora_layer(rng).double())
    expect(plain.weight.dtype == torch.float64, "of a layer in float64 you made a float32 one: " + NEW_LINEAR)


def leaves_the_layer(answer, rng):
    layer = lora_layer(rng)
    x = draw(rng, 2, 7)
    before, dtypes = layer(x).detach(), {p.dtype for p in layer.parameters()}
    plain = merged_by(answer, layer)
    expect(plain is not layer.base and plain.weight is not layer.base.weight and close(layer(x), before),
           "the frozen layer itself was changed. The adapter still adds its correction, so it now counts twice. "
           "Change a copy.")  # fmt: skip
    answer[1](layer, x, torch.bfloat16)
    expect({p.dtype for p in layer.parameters()} == dtypes,
           "merge_error turned the layer itself into another dtype: .to(dtype) works in place. Copy it.")  # fmt: skip
    expect(close(layer(x), before), "merge_error changed the layer. Work on a copy.")


def merges(answer, rng):
    for r, alpha, bias in ((3, 7.0, True), (2, 1.0, False)):
        layer = lora_layer(rng, r, alpha, bias)
        x = draw(rng, 2, 3, 7)
        edit = x @ layer.A.T @ layer.B.T
        frozen, bare, scale = layer.base(x), x @ layer.base.weight.T, alpha / r
        got = run(merged_by(answer, layer), x)
        suspects = {
            "only the frozen layer came back: add the change to its weight.": frozen,
            "only the change came back: add it to the frozen weight.": frozen - bare + scale * edit,
            "the change is not scaled: use change(), which holds α / r.": frozen + edit,
            "the change is scaled twice: change() holds α / r already.": frozen + scale**2 * edit,
            "the change was added twice.": frozen + 2 * scale * edit,
        }
        if bias:
            suspects["the bias was lost: the merged layer keeps the frozen layer's."] = bare + scale * edit
        name_the_fault(got, frozen + scale * edit, suspects, "the merged layer must give base(x) + α / r · x Aᵀ Bᵀ.")


def error_in(layer, x, dtype):
    """The reference's figures, worked out apart from it: the largest difference, the largest output, their slip."""
    layer = copy.deepcopy(layer).to(dtype)
    x, W = x.to(dtype), layer.base.weight
    apart, whole = layer(x), nn.functional.linear(x, W + layer.change(), layer.base.bias)
    off, size = (whole - apart).abs().double(), apart.abs().double()
    return off.max().item(), size.max().item(), (off / size).max().item()


def measures(answer, rng):
    weight = merged_by(answer, lora_layer(rng).double()).weight
    expect((weight != weight.float()).any(), "the merged weight was float32 on its way: " + NEW_LINEAR)
    for dtype, most in ((torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        layer, x = lora_layer(rng, size=2.0), 4 * draw(rng, 64, 7)
        off, largest, each_by_its_own = error_in(layer, x, dtype)
        got = answer[1](layer, x, dtype)
        expect(isinstance(got, (int, float)) and not isinstance(got, bool),
               f"merge_error returned {type(got).__name__}; a number is wanted, so end with .item().")  # fmt: skip
        name = str(dtype).removeprefix("torch.")
        near_slip = each_by_its_own / 1.5 <= got <= each_by_its_own * 1.5
        expect(not near_slip, "each difference was divided by its own output, and outputs near zero make that large: "
                              "divide the largest difference by the largest output.")  # fmt: skip
        expect(got <= 6 * most, f"in {name} the error is {got:.1g}, too large for rounding in {name}: turn layer *and* "
                                f"x into {name} before you merge.")  # fmt: skip
        expect(got != 0, f"in {name} the error came out as exactly 0: are merged and unmerged the same object, or "
                         "compared in fewer digits?")  # fmt: skip
        expect(got < off / 3, f"in {name} that is the difference itself: divide it by the largest output.")
        expect(off / largest / 8 <= got <= off / largest * 8,
               f"in {name} the error should be near {off / largest:.1g}, and you have {got:.1g}: turn layer *and* x "
               f"into {name} before you merge, and take .abs() before .max().")  # fmt: skip
    never_negative(answer, rng)


def never_negative(answer, rng):
    """One input and one output at a time: there a missing .abs() shows."""
    layer = LoRA(nn.Linear(7, 1, bias=False), rank=3, alpha=7.0)
    with torch.no_grad():
        for p in (layer.base.weight, layer.A, layer.B):
            p.copy_(draw(rng, *p.shape))
    errors = [answer[1](layer, row, torch.float32) for row in draw(rng, 24, 1, 7)]
    expect(min(errors) >= 0, "an error came out negative: take .abs() before .max(), above and below the line.")


MERGE_LAYER = ("def merge_layer(layer):\n    plain = copy.deepcopy(layer.base)\n"
               "    plain.weight = nn.Parameter(plain.weight + layer.change(), requires_grad=False)\n"
               "    return plain\n")  # fmt: skip
MERGE_ERROR = ("def merge_error(layer, x, dtype):\n    layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
               "    apart, whole = layer(x), merge_layer(layer)(x)\n"
               "    return ((whole - apart).abs().max() / apart.abs().max()).item()")  # fmt: skip


def merge_with(layer=None, error=None):
    """Both functions, with the lines of one replaced."""
    first = "def merge_layer(layer):\n    " + layer.replace("\n", "\n    ") + "\n" if layer else MERGE_LAYER
    second = "def merge_error(layer, x, dtype):\n    " + error.replace("\n", "\n    ") if error else MERGE_ERROR
    return f"{first}\n\n{second}"


COPY = "plain = copy.deepcopy(layer.base)\nplain.weight = nn.Parameter({}, requires_grad=False)\nreturn plain"
FRESH = "plain = nn.Linear(layer.base.in_features, layer.base.out_features, bias=False)\n"
NEW = (FRESH.replace("False", "layer.base.bias is not None")
       + "plain.weight.data.copy_(layer.base.weight + layer.change())\n"
         "if layer.base.bias is not None:\n    plain.bias.data.copy_(layer.base.bias)\n")  # fmt: skip
MERGE = Exercise(
    name="lora.merge", defines="merge_layer, merge_error", title="Fold it in", tier="core", difficulty=3, minutes=8,
    points=4, unlocks="a model without any extra work per token, and what that costs in digits",
    needs=("copy", "nn"), reference=merge_with(),
    properties=(Property("gives a plain layer back", is_plain, core=True),
                Property("leaves the adapted layer as it was", leaves_the_layer, core=True),
                Property("merged and unmerged agree", merges, core=True),
                Property("the error is relative, in the dtype asked for", measures, core=True)),
    hints=("Which line of the worked example in lesson 00 used a changed W in place of two paths?",
           "W' = W + change(), bias as before; error = max |merged - unmerged| / max |unmerged|, all in dtype",
           "plain = copy.deepcopy(layer.base); plain.weight = nn.Parameter(...); then copy.deepcopy(layer).to(dtype)"),
    remark="A new layer comes back, so that unmerging is a matter of keeping the old one, and no rounding piles up.",
    wrong=(Wrong("merges in place", merge_with("with torch.no_grad():\n    layer.base.weight += layer.change()\n"
                                               "return layer.base"), "counts twice"),
           Wrong("the layer turned in place", merge_with(error="layer, x = layer.to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).abs().max() / apart.abs().max()).item()"), "in place"),
           Wrong("no scale", merge_with(COPY.format("plain.weight + layer.B @ layer.A")), "not scaled"),
           Wrong("scaled twice", merge_with(COPY.format("plain.weight + layer.scale * layer.change()")),
                 "scaled twice"),
           Wrong("bias lost", merge_with(FRESH + "plain.weight = nn.Parameter(layer.base.weight + layer.change())\n"
                                         "return plain"), "bias was lost"),
           Wrong("change only", merge_with(COPY.format("layer.change()")), "only the change"),
           Wrong("A B instead of B A", merge_with(COPY.format("plain.weight + layer.scale * layer.A @ layer.B")),
                 "shapes do not fit"),
           Wrong("transposed", merge_with(COPY.format("plain.weight + layer.change().T")), "shapes do not fit"),
           Wrong("nothing merged", merge_with("return copy.deepcopy(layer.base)"), "only the frozen layer"),
           Wrong("the adapted layer", merge_with("return layer"), "adapted layer itself"),
           Wrong("the weight alone", merge_with("return layer.base.weight + layer.change()"), "Tensor"),
           Wrong("not relative", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "return (merge_layer(layer)(x) - layer(x)).abs().max().item()"), "divide|divided"),
           Wrong("in float32 always", merge_with(error="apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).abs().max() / apart.abs().max()).item()"), "both sides in|turn layer"),
           Wrong("only x in the dtype", merge_with(error="x = x.to(dtype).float()\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).abs().max() / apart.abs().max()).item()"), "both sides in|turn layer"),
           Wrong("no abs", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).max() / apart.max()).item()"), r"\.abs\(\)"),
           Wrong("no abs above", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).max() / apart.abs().max()).item()"), r"\.abs\(\)"),
           Wrong("each by its own", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return ((whole - apart).abs() / apart.abs()).max().item()"), "by its own"),
           Wrong("compared in float32", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x).float(), merge_layer(layer)(x).float()\n"
                 "return ((whole - apart).abs().max() / apart.abs().max()).item()"), "fewer digits|before you merge"),
           Wrong("a new float32 layer", merge_with(NEW + "return plain"), "nn.Linear is float32"),
           Wrong("float32 on the way", merge_with(NEW + "return plain.to(layer.base.weight.dtype)"), "on its way"),
           Wrong("a tensor", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "apart, whole = layer(x), merge_layer(layer)(x)\n"
                 "return (whole - apart).abs().max() / apart.abs().max()"), "item"),
           Wrong("compared with itself", merge_with(error="layer, x = copy.deepcopy(layer).to(dtype), x.to(dtype)\n"
                 "return ((layer(x) - layer(x)).abs().max() / layer(x).abs().max()).item()"), "exactly 0")),
)  # fmt: skip


# 6. GPT-2's layer


CONV = {**GOOD,
        "A": "self.A = nn.Parameter(torch.randn(r, base.nx) / base.nx**0.5)",
        "B": "self.B = nn.Parameter(torch.zeros(base.nf, r))",
        "change": "return self.scale * (self.B @ self.A).T"}  # fmt: skip


def conv_with(**faults):
    return class_with("LoRAConv1D", CONV, **faults)


CONV1D = Exercise(
    name="lora.conv1d", defines="LoRAConv1D", title="The other way round", tier="full", difficulty=3, minutes=10,
    points=4, unlocks="LoRA on GPT-2, whose linear layers are all of this kind", needs=("torch", "nn", "Adapter"),
    reference=conv_with(),
    properties=(Property("starts as the pretrained layer, and can learn", conv_starts, core=True),
                Property("adds α / r · (x Aᵀ) Bᵀ", conv_adds, core=True),
                Property("change() lies as the weight lies", conv_change, core=True)),
    hints=("The layer stores its weight as (d_in, d_out). Does that change x, A or B, or only what is added to it?",
           "y = base(x) + (α / r) (x Aᵀ) Bᵀ as before; change = (α / r) (B A)ᵀ; base.nx is d_in, base.nf is d_out",
           "self.A = nn.Parameter(torch.randn(r, base.nx) ...); change: return self.scale * (...).T"),
    remark="Only the place where the change meets the weight knows how the layer stores it.",
    wrong=(Wrong("change not turned", conv_with(change="return self.scale * self.B @ self.A"), "turn B A round"),
           Wrong("A and B swapped", conv_with(
               A="self.A = nn.Parameter(torch.randn(r, base.nf))", B="self.B = nn.Parameter(torch.zeros(base.nx, r))"),
               r"\(r, d_in\)"),
           Wrong("in_features", layer_with().replace("LoRALinear", "LoRAConv1D"), "base.nx"),
           Wrong("alpha alone", conv_with(scale="self.scale = alpha"), "grows with the rank"),
           Wrong("both random", conv_with(B="self.B = nn.Parameter(torch.randn(base.nf, r))"), "both random"),
           Wrong("both zero", conv_with(A="self.A = nn.Parameter(torch.zeros(r, base.nx))"), "both zero"),
           Wrong("x turned too", conv_with(
               forward="return self.base(x) + self.scale * (x @ self.B) @ self.A"), "square layers only"),
           Wrong("edit replaces base", conv_with(forward="return self.scale * (x @ self.A.T) @ self.B.T"),
                 "does not replace"),
           Wrong("change without scale", conv_with(change="return (self.B @ self.A).T"), "not scaled"),
           Wrong("shapes from weight.shape", conv_with(
               A="d_out, d_in = base.weight.shape\nself.A = nn.Parameter(torch.randn(r, d_in))",
               B="self.B = nn.Parameter(torch.zeros(d_out, r))"), r"\(r, d_in\)"),
           Wrong("base copied", conv_with(base="super().__init__(copy.deepcopy(base))\nimport copy").replace(
               "super().__init__(copy.deepcopy(base))\n        import copy",
               "import copy\n        super().__init__(copy.deepcopy(base))"), "copy")),
)  # fmt: skip


# 7. A rank for a budget


def budget_with(cond="re.fullmatch(pattern, name) and isinstance(m, nn.Linear)", price="m.in_features + m.out_features",
                end="return budget // price"):  # fmt: skip
    return ("def rank_for_budget(model, pattern, budget):\n"
            f"    layers = [m for name, m in model.named_modules() if {cond}]\n"
            f"    price = sum({price} for m in layers)\n    {end}")  # fmt: skip


BUDGET = Exercise(
    name="lora.budget", defines="rank_for_budget", title="A rank for a budget", tier="full", difficulty=2, minutes=6,
    points=2, unlocks="comparing targets at an equal number of trained numbers", needs=("re", "nn"),
    reference=budget_with(),
    properties=(Property("the largest rank that fits", fits, core=True),
                Property("a whole number, 0 where nothing fits", is_whole, core=True)),
    hints=("What does one unit of rank cost in one layer, and in how many layers is it paid?",
           "r = ⌊budget / Σ (d_in + d_out)⌋, over the linear layers whose whole name matches",
           "layers = [m for name, m in model.named_modules() if ...]; price = sum(...); return budget // price"),
    remark="Equal ranks are not equal budgets: what a unit of rank costs depends on the targets.",
    wrong=(Wrong("search for fullmatch", budget_with("re.search(pattern, name) and isinstance(m, nn.Linear)"),
                 "re.fullmatch"),
           Wrong("match for fullmatch", budget_with("re.match(pattern, name) and isinstance(m, nn.Linear)"),
                 "query_norm"),
           Wrong("A only", budget_with(price="m.in_features"), "B is missing"),
           Wrong("square only", budget_with(price="2 * m.in_features"), "square"),
           Wrong("the matrices", budget_with(price="m.in_features * m.out_features"), "frozen matrices"),
           Wrong("one layer", budget_with(end="return budget // (layers[0].in_features + layers[0].out_features)"),
                 "every layer"),
           Wrong("rounded", budget_with(end="return round(budget / price)"), "exceeded"),
           Wrong("rounded up", budget_with(end="return math.ceil(budget / price)"), "rounded up"),
           Wrong("not whole", budget_with(end="return budget / price"), "whole number"),
           Wrong("with a bias", budget_with(price="m.in_features + 2 * m.out_features"), "no bias"),
           Wrong("one level down", budget_with().replace("named_modules", "named_children"), "named_modules"),
           Wrong("this model only", budget_with().replace("model.named", "model.base_model.named"),
                 "any model"),
           Wrong("norms too", budget_with("re.fullmatch(pattern, name)"), "norms and containers"),
           Wrong("at least one", budget_with(end="return max(1, budget // price)"), "not even rank 1|whole name")),
)  # fmt: skip


# 8. A probe for gradients


def probe_with(value="None if p.grad is None else p.grad.norm().item()", more="", items="trained(model).items()"):
    return f"def probe(model):\n    return {{name: {value} for name, p in {items}{more}}}"


PROBE = Exercise(
    name="lora.probe", defines="probe", title="A probe", tier="full", difficulty=2, minutes=5, points=3,
    unlocks="finding adapters that never train, in any model", needs=("trained",), reference=probe_with(),
    properties=(Property("names what trains, and only that", names_them, core=True),
                Property("gives the norm of each gradient", gives_norms, core=True),
                Property("says None where there is no gradient, and only there", tells_none, core=True),
                Property("only looks", leaves_gradients, core=True)),
    hints=("After loss.backward(), where is the gradient of a parameter p, and what is there if none arrived?",
           "{name: ‖p.grad‖ or None} over trained(model), which is {name: parameter}",
           "return {name: None if ... else ... for name, p in trained(model).items()}"),
    remark="None and zero differ: A's first gradient is exactly zero when B starts at zero. None means cut off.",
    wrong=(Wrong("skips the dead ones", probe_with("p.grad.norm().item()", " if p.grad is not None"), "missing"),
           Wrong("none for zero", probe_with("p.grad.norm().item() if p.grad is not None and p.grad.any() else None"),
                 "exactly zero"),
           Wrong("zero for none", probe_with("0.0 if p.grad is None else p.grad.norm().item()"), "healthy"),
           Wrong("norm of the weights", probe_with("None if p.grad is None else p.norm().item()"), "gradient"),
           Wrong("frozen ones too", probe_with(items="model.named_parameters()"), "frozen"),
           Wrong("the sum", probe_with("None if p.grad is None else p.grad.sum().item()"), "signs cancel"),
           Wrong("squared", probe_with("None if p.grad is None else p.grad.pow(2).sum().item()"), "square"),
           Wrong("one number", "def probe(model):\n"
                 "    return sum(p.grad.norm().item() for p in trained(model).values() if p.grad is not None)", "dict"),
           Wrong("true or false", probe_with("p.grad is not None"), "norm of its gradient"),
           Wrong("crashes where there is none", probe_with("p.grad.norm().item()"), "has no norm"),
           Wrong("clears them", probe_with().replace("return", "found =") + "\n    model.zero_grad()\n    return found",
                 "only look")),
)  # fmt: skip


# 9. The embedding

EMB = {**CONV,
       "A": "self.A = nn.Parameter(torch.zeros(r, base.num_embeddings))",
       "B": "self.B = nn.Parameter(torch.randn(base.embedding_dim, r))",
       "forward": "return self.base(x) + self.scale * self.A.T[x] @ self.B.T"}  # fmt: skip


def emb_with(**faults):
    return class_with("LoRAEmbedding", EMB, **faults)


EMBEDDING = Exercise(
    name="lora.embedding", defines="LoRAEmbedding", title="The embedding", tier="stretch", difficulty=4, minutes=8,
    points=4, unlocks="new words and new scripts, and LoRA on every layer that has a weight",
    needs=("torch", "nn", "Adapter"), reference=emb_with(),
    properties=(Property("starts as the pretrained layer, and can learn", emb_starts, core=True),
                Property("adds α / r · Aᵀ[x] Bᵀ", emb_adds, core=True),
                Property("words that never come up stay", unseen_stay, core=True),
                Property("change() lies as the weight lies", emb_change, core=True)),
    hints=("x holds ids, not features. What does multiplying a one-hot vector by Aᵀ do?",
           "y = base(x) + (α / r) Aᵀ[x] Bᵀ with A (r, words) zero and B (d, r) random; change = (α / r) (B A)ᵀ",
           "self.A = nn.Parameter(torch.zeros(r, base.num_embeddings)); ... self.A.T[x] @ self.B.T"),
    remark="Here A starts at zero. A column of A belongs to one word, and a word that is never seen must stay.",
    wrong=(Wrong("A random, B zero", emb_with(A="self.A = nn.Parameter(torch.randn(r, base.num_embeddings))",
                                              B="self.B = nn.Parameter(torch.zeros(base.embedding_dim, r))"),
                 "never came up"),
           Wrong("ids as features", emb_with(forward="return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T"),
                 "look up|out of bounds"),
           Wrong("rows of A", emb_with(forward="return self.base(x) + self.scale * self.A[x] @ self.B.T"),
                 "look up|out of bounds"),
           Wrong("on the looked-up vector", emb_with(
               A="self.A = nn.Parameter(torch.zeros(r, base.embedding_dim))",
               forward="y = self.base(x)\nreturn y + self.scale * (y @ self.A.T) @ self.B.T"), r"\(r, d_in\)"),
           Wrong("alpha alone", emb_with(scale="self.scale = alpha"), "grows with the rank"),
           Wrong("both random", emb_with(A="self.A = nn.Parameter(torch.randn(r, base.num_embeddings))"),
                 "both random"),
           Wrong("both zero", emb_with(B="self.B = nn.Parameter(torch.zeros(base.embedding_dim, r))"), "both zero"),
           Wrong("edit replaces base", emb_with(forward="return self.scale * self.A.T[x] @ self.B.T"),
                 "does not replace"),
           Wrong("change not turned", emb_with(change="return self.scale * self.B @ self.A"), "turn B A round"),
           Wrong("change without scale", emb_with(change="return (self.B @ self.A).T"), "not scaled"),
           Wrong("detached", emb_with(forward="return self.base(x) + self.scale * self.A.T[x].detach() @ self.B.T"),
                 "should have moved")),
)  # fmt: skip

LESSON = Lesson(id="04", slug="lora", title="LoRA", requires=("00",), minutes=110,
                exercises=(TRUNCATE, ORDER, LAYER, GRADIENTS, MERGE, CONV1D, BUDGET, PROBE, EMBEDDING))  # fmt: skip
