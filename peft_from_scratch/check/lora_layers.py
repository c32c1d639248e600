"""What lesson 04 asks of a LoRA on three kinds of layer: nn.Linear, GPT-2's Conv1D, nn.Embedding."""

import inspect

import torch
from torch import nn

from ..adapter import Adapter
from .tools import draw, expect, expect_tensor, name_the_fault, run

NO_BASE = "the frozen layer's own output is missing: LoRA adds to the layer, it does not replace it."
SCALED_ALL = "the scale multiplies the frozen part as well; it belongs to the correction only."
NO_EDIT = "A and B have no effect: the correction is missing."
RANKS = ((4, 16.0), (2, 5.0), (1, 3.0))  # r, alpha: never equal, or a missing division stays unseen


def scale_faults(edit, r, alpha):
    """What known slips make of the bare product x Aᵀ Bᵀ (or B A)."""
    return {
        "the correction is multiplied by α; it must be α / r, or it grows with the rank.": alpha * edit,
        "that is α · r: upside down. Divide by r.": alpha * r * edit,
        "the correction is not scaled: multiply by α / r.": edit,
        "divided by r twice: the scale is α / r.": alpha / r**2 * edit,
        "that is α / √r, the rank-stabilised variant of lesson 05. LoRA divides by r.": alpha / r**0.5 * edit,
        "upside down: the scale is α / r, not r / α.": r / alpha * edit,
        "α // r cuts the fraction off: divide with /.": alpha // r * edit,
        NO_EDIT: torch.zeros_like(edit),
    }  # fmt: skip


def made(make, base, r=4, alpha=16.0):
    """The learner's layer around `base`."""
    try:
        inspect.signature(make).bind(base, r, alpha)
    except (TypeError, ValueError):
        raise AssertionError("the class takes the pretrained layer, the rank and alpha: (base, r, alpha).") from None
    try:
        layer = make(base, r, alpha)
    except AttributeError as error:
        if "in_features" not in str(error) and "out_features" not in str(error):
            raise
        raise AssertionError("this layer has no in_features and out_features. A Conv1D has base.nx (in) and base.nf "
                             "(out), an embedding num_embeddings and embedding_dim.") from None  # fmt: skip
    expect(isinstance(layer, Adapter), "make it a subclass of Adapter, so that inject can find what it owns.")
    expect(layer.base is base, "the pretrained layer is not self.base: is it a fresh one, or a copy? Keep `base`.")
    return layer


def factors(layer, r, d_in, d_out):
    for name, shape, words in (("A", (r, d_in), "(r, d_in)"), ("B", (d_out, r), "(d_out, r)")):
        value = getattr(layer, name, None)
        expect(value is not None, f"there is no self.{name}: the notebook and this check look for A and B.")
        kind = "a buffer" if name in layer._buffers else f"of type {type(value).__name__}"
        expect(isinstance(value, nn.Parameter), f"self.{name} is {kind}; only an nn.Parameter trains.")
        expect(tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, wanted {shape}: {words}.")
    return layer.A, layer.B


def randomise(layer, rng, r, d_in, d_out):
    A, B = factors(layer, r, d_in, d_out)
    with torch.no_grad():
        A.copy_(draw(rng, r, d_in)), B.copy_(draw(rng, d_out, r))
    return A, B


def trains_two(layer, A, B):
    moving = [p for p in layer.parameters() if p.requires_grad]
    free = [p for p in moving if p is not A and p is not B]
    expect(not free, "more than A and B trains. super().__init__(base) freezes the base: leave it frozen.")
    expect(len(moving) == 2, "A or B is frozen too, so the correction cannot learn.")


def not_both_zero(A, B):
    expect(A.any() or B.any(), "A and B are both zero. It looks safe, but the gradient of each holds the other: none "
                               "ever moves.")  # fmt: skip


def not_both_random(A, B, zero="B"):
    expect(not (A.any() and B.any()), "A and B are both random, so the output changes before any training. Start one "
                                      f"at zero: {zero}.")  # fmt: skip


def linear_base(rng, bias=True):
    base = nn.Linear(7, 5, bias=bias)
    with torch.no_grad():
        for p in base.parameters():
            p.copy_(draw(rng, *p.shape))
    return base


def owns_two(make, rng):
    base = linear_base(rng)
    layer = made(make, base)
    trains_two(layer, *factors(layer, 4, 7, 5))


def starts_as_base(make, rng):
    for bias in (True, False):
        base = linear_base(rng, bias)
        layer = made(make, base)
        A, B = factors(layer, 4, 7, 5)
        not_both_random(A, B)
        x = draw(rng, 2, 3, 7)
        got, want = run(layer, x), base(x)
        name_the_fault(got, want, {NO_BASE: torch.zeros_like(want), SCALED_ALL: 4 * want},
                       "before training the output must be base(x).")  # fmt: skip


def scales(make, rng):
    for r, alpha in RANKS:
        base = linear_base(rng)
        layer = made(make, base, r, alpha)
        A, B = randomise(layer, rng, r, 7, 5)
        x = draw(rng, 2, 3, 7)
        edit, frozen = x @ A.T @ B.T, base(x)
        got = run(layer, x)
        name_the_fault(got, frozen + alpha / r * edit, {
            NO_BASE: alpha / r * edit,
            SCALED_ALL: alpha / r * (frozen + edit),
            **{advice: frozen + value for advice, value in scale_faults(edit, r, alpha).items()},
        }, "the output must be base(x) + α / r · (x Aᵀ) Bᵀ.")  # fmt: skip


def learns(make, rng):
    layer = made(make, linear_base(rng))
    not_both_zero(*factors(layer, 4, 7, 5))
    A, B = randomise(layer, rng, 4, 7, 5)
    got = run(layer, draw(rng, 3, 7))
    grads = torch.autograd.grad(got.sum(), (A, B), allow_unused=True) if got.requires_grad else (None, None)
    for name, grad in zip("AB", grads, strict=True):
        expect(grad is not None and grad.any(), f"no gradient reaches {name}: is something detached?")


def tells_its_change(make, rng):
    for r, alpha in RANKS:
        layer = made(make, linear_base(rng), r, alpha)
        A, B = randomise(layer, rng, r, 7, 5)
        got = run(layer.change, shapes="B is (d_out, r) and A is (r, d_in): the change is B A, not A B.")
        expect_tensor(got, "change()")
        turned = tuple(got.shape) == (7, 5)
        expect(not turned, "change() has the shape (d_in, d_out). An nn.Linear stores (d_out, d_in): B A.")
        name_the_fault(got, alpha / r * B @ A, {
            "that is the merged weight. change() is only what is added to it: α / r · B A.":
                layer.base.weight + alpha / r * B @ A,
            **scale_faults(B @ A, r, alpha),
        }, "change() must be α / r · B A.")  # fmt: skip


# GPT-2's layer


class Conv1D(nn.Module):
    """As transformers has it: y = x W + b with W (d_in, d_out)."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.empty(nx, nf)), nn.Parameter(torch.empty(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


def conv1d_base(rng):
    base = Conv1D(5, 7)
    with torch.no_grad():
        for p in base.parameters():
            p.copy_(draw(rng, *p.shape))
    return base


def conv_starts(make, rng):
    base = conv1d_base(rng)
    layer = made(make, base)
    A, B = factors(layer, 4, 7, 5)
    trains_two(layer, A, B)
    not_both_zero(A, B), not_both_random(A, B)
    x = draw(rng, 2, 3, 7)
    name_the_fault(run(layer, x), base(x), {NO_BASE: torch.zeros(2, 3, 5)}, "before training it must be base(x).")


def conv_adds(make, rng):
    for r, alpha in RANKS:
        base = conv1d_base(rng)
        layer = made(make, base, r, alpha)
        A, B = randomise(layer, rng, r, 7, 5)
        x = draw(rng, 2, 3, 7)
        edit, frozen = x @ A.T @ B.T, base(x)
        name_the_fault(run(layer, x), frozen + alpha / r * edit, {
            NO_BASE: alpha / r * edit,
            **{advice: frozen + value for advice, value in scale_faults(edit, r, alpha).items()},
        }, "the output must be base(x) + α / r · (x Aᵀ) Bᵀ, as for an nn.Linear: x has not turned round.")  # fmt: skip


def conv_change(make, rng):
    layer = made(make, conv1d_base(rng), 2, 5.0)
    A, B = randomise(layer, rng, 2, 7, 5)
    got = run(layer.change, shapes="B is (d_out, r) and A is (r, d_in): the product is B A.")
    expect_tensor(got, "change()")
    expect(tuple(got.shape) == (7, 5), f"change() is {tuple(got.shape)}, and base.weight is (7, 5): this layer stores "
           "(d_in, d_out), so turn B A round. On a square layer the sum would run, and be wrong.")  # fmt: skip
    name_the_fault(got, 2.5 * (B @ A).T, scale_faults((B @ A).T, 2, 5.0), "change() must be α / r · (B A)ᵀ.")


# The embedding

LOOK_UP = "the shapes do not fit: x holds ids, so look up the rows of Aᵀ by them, then multiply by Bᵀ."
SEEN = torch.tensor([[1, 4, 4], [0, 1, 4]])


def embedding_base(rng):
    base = nn.Embedding(9, 5)
    with torch.no_grad():
        base.weight.copy_(draw(rng, 9, 5))
    return base


def emb_starts(make, rng):
    base = embedding_base(rng)
    layer = made(make, base)
    A, B = factors(layer, 4, 9, 5)
    trains_two(layer, A, B)
    not_both_zero(A, B), not_both_random(A, B, zero="the words that never come up say which")
    got = run(layer, SEEN, shapes=LOOK_UP)
    name_the_fault(got, base(SEEN), {NO_BASE: torch.zeros(2, 3, 5)}, "before training it must be base(x).")


def emb_adds(make, rng):
    for r, alpha in RANKS:
        base = embedding_base(rng)
        layer = made(make, base, r, alpha)
        A, B = randomise(layer, rng, r, 9, 5)
        edit, frozen = A.T[SEEN] @ B.T, base(SEEN)
        got = run(layer, SEEN, shapes=LOOK_UP)
        name_the_fault(got, frozen + alpha / r * edit, {
            NO_BASE: alpha / r * edit,
            **{advice: frozen + value for advice, value in scale_faults(edit, r, alpha).items()},
        }, "the output must be base(x) + α / r · Aᵀ[x] Bᵀ: the ids choose columns of A.")  # fmt: skip


def unseen_stay(make, rng):
    base = embedding_base(rng)
    layer = made(make, base)
    moving = [p for p in layer.parameters() if p.requires_grad]
    for _ in range(3):  # by hand: torch.optim takes seconds to import
        grads = torch.autograd.grad((run(layer, SEEN) - 1).pow(2).sum(), moving, allow_unused=True)
        with torch.no_grad():
            for p, grad in zip(moving, grads, strict=True):
                p -= 0.1 * (torch.zeros_like(p) if grad is None else grad)
    moved = (run(layer, torch.arange(9)) - base.weight).abs().sum(1) > 1e-6
    expect(moved[SEEN].all(), "after three steps the words in the batch should have moved: does anything learn?")
    still = [i for i in range(9) if i not in SEEN]
    expect(not moved[still].any(), "words that never came up have moved: their columns of A were random, and B made "
                                   "that noise heard. In an embedding start A at zero and B at random.")  # fmt: skip


def emb_change(make, rng):
    layer = made(make, embedding_base(rng), 2, 5.0)
    A, B = randomise(layer, rng, 2, 9, 5)
    got = run(layer.change, shapes="B is (d_out, r) and A is (r, words): the product is B A.")
    expect_tensor(got, "change()")
    expect(tuple(got.shape) == (9, 5), f"change() is {tuple(got.shape)}, and base.weight is (9, 5): turn B A round.")
    name_the_fault(got, 2.5 * (B @ A).T, scale_faults((B @ A).T, 2, 5.0), "change() must be α / r · (B A)ᵀ.")


def class_with(name, good, **faults):
    """The class `name` with some of its reference's lines replaced."""
    lines = {part: text.replace("\n", "\n        ") for part, text in {**good, **faults}.items()}
    *init, forward, change = (f"        {text}" for text in lines.values() if text)
    return "\n".join([f"class {name}(Adapter):", "    def __init__(self, base, r, alpha):", *init, "",
                      "    def forward(self, x):", forward, "", "    def change(self):", change])  # fmt: skip
