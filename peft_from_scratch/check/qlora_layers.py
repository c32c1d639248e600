"""What lesson 06 asks of a 4-bit layer, of LoRA over it, and of what a second rounding leaves of a change."""

import torch
from torch import nn

from ..adapter import Adapter
from ..quant import rounded
from ..quant.codes import code_of
from .tools import draw, expect, name_the_fault, run

CODE = code_of("nf4")
FIT = "the shapes do not fit: W is (d_out, d_in), so x meets W.T on the way there and W on the way back."
KEPT = (
    "the whole weight is kept as numbers of {bits} bits: {size:,} bytes more than what is packed. The gradients are "
    "right and the memory is not. Keep the bytes, and dequantise again."
)
D_OUT, D_IN = 48, 64
TYPES = (
    "x came in bfloat16 and met a W in float32, which torch does not multiply: cast W to the type of x on the way "
    "there, and to that of dy on the way back."
)
INSTANCE = (
    "Product(...) only makes an object of the class. Product.apply(...) computes, and is what autograd can follow."
)


def plain_base(rng, bias=True):
    base = nn.Linear(D_IN, D_OUT, bias=bias)
    with torch.no_grad():
        for p in base.parameters():
            p.copy_(draw(rng, *p.shape))
    return base


def stored(base):
    """The weight as four bits leave it."""
    return rounded(base.weight.detach(), "nf4", 64, False)


def made(make, base):
    layer = make(base, CODE)
    expect(isinstance(layer, nn.Module), "Linear4bit(base, code) must give an nn.Module.")
    return layer


def tensors_in(module):
    """Every tensor that a module, or a module in it, holds, however it is kept."""
    found = {}
    for path, part in module.named_modules():
        for name, value in [*vars(part).items(), *part._parameters.items(), *part._buffers.items()]:
            values = value if isinstance(value, (tuple, list)) else [value]
            found |= {id(t): (f"{path}.{name}".lstrip("."), t) for t in values if torch.is_tensor(t)}
    return list(found.values())


def called(layer, x):
    """layer(x), with words for what torch would say in its own: types that differ, and a class that was not applied."""
    try:
        return run(layer, x, shapes=FIT)
    except (AttributeError, TypeError, RuntimeError) as error:
        said = INSTANCE if "'Product'" in str(error) else TYPES if "dtype" in str(error) else None
        if said is None:
            raise
    raise AssertionError(said)


def keeps_bytes(make, rng):
    layer = made(make, plain_base(rng))
    for name, t in tensors_in(layer):
        whole = t.numel() >= D_OUT * D_IN
        expect(not (whole and t.is_floating_point()), f"self.{name} is the weight itself, with {t.element_size() * 8} "
               "bits a number: what a layer stores are the bytes and the scales.")  # fmt: skip
        expect(not whole, f"self.{name} has a byte for every weight: two indices go into one.")
    names = {id(t) for t in [*layer.parameters(), *layer.buffers()]}
    loose = [n for n, t in tensors_in(layer) if id(t) not in names]
    expect(not loose,
           f"self.{(loose or [''])[0]} is an attribute only: layer.to(device) and state_dict() would pass it "
           "by. Use register_buffer.")  # fmt: skip
    there = any(t.dtype == torch.uint8 for _, t in tensors_in(layer))
    expect(there, "no tensor of the type uint8 is there: what holds the packed indices?")
    expect(
        not any(p.requires_grad for n, p in layer.named_parameters() if n != "bias"), "something but the bias trains."
    )


def multiplies(make, rng):
    for bias in (True, False):
        base = plain_base(rng, bias)
        layer, x, W = made(make, base), draw(rng, 2, 3, D_IN), stored(base)
        b = base.bias.detach() if bias else torch.zeros(D_OUT)
        got = called(layer, x)
        name_the_fault(got, x @ W.T + b, {
            "the bias was lost.": x @ W.T,
            "that is the layer as it was before: nothing has been quantised.": base(x).detach(),
            "the bias is added twice.": x @ W.T + 2 * b,
        }, "the output must be x Wᵀ + bias with the dequantised W.")  # fmt: skip
    half = called(layer, x.bfloat16())
    kind = half.dtype if torch.is_tensor(half) else type(half).__name__
    expect(
        kind == torch.bfloat16,
        f"x came in bfloat16 and the output has {kind}: the product is computed in the type of x.",
    )


def passes_the_gradient(make, rng):
    base = plain_base(rng)
    layer, W, weights = made(make, base), stored(base), draw(rng, 2, 3, D_OUT)
    x = draw(rng, 2, 3, D_IN).requires_grad_(True)
    y = run(layer, x, shapes=FIT)
    expect(y.requires_grad, "the output hangs on nothing, so that no layer below would ever learn: is it detached?")
    (got,) = run(lambda: torch.autograd.grad((y * weights).sum(), x, allow_unused=True), shapes=FIT)
    expect(got is not None and got.any(),
           "x gets no gradient. Frozen means: no gradient *for W*. The layers below need "
           "the one of x: dy @ W.")  # fmt: skip
    name_the_fault(got, weights @ W, {
        "that is the gradient of the layer before it was rounded: dequantise again.": weights @ base.weight.detach(),
        "the gradient is passed straight through the values of the code.": weights @ (W / base.weight.abs().max()),
    }, "the gradient of x must be dy @ W, with the same dequantised W as in the forward.")  # fmt: skip
    x = x.detach().bfloat16().requires_grad_(True)
    called(lambda given: torch.autograd.grad(layer(given).float().sum(), given), x)


def keeps_only_the_bytes(make, rng):
    layer = made(make, plain_base(rng))
    x = draw(rng, 1, D_IN).requires_grad_(True)
    resident = {t.untyped_storage().data_ptr() for _, t in tensors_in(layer)} | {x.untyped_storage().data_ptr()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t.detach(), lambda t: t):
        y = run(layer, x, shapes=FIT)
    hidden = [t for node in nodes(y.grad_fn) for t in attributes(node)]
    for t in kept + hidden:
        if t.untyped_storage().data_ptr() not in resident and t.numel() >= D_OUT * D_IN:
            raise AssertionError(KEPT.format(bits=8 * t.element_size(), size=t.nbytes))
    with_x = draw(rng, 4096, D_IN).requires_grad_(True)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t.detach(), lambda t: t):
        y = run(layer, with_x, shapes=FIT)
    expect(not any(t.shape == with_x.shape for t in kept + [t for n in nodes(y.grad_fn) for t in attributes(n)]),
           "x is kept for the backward pass, and nothing there needs it: only the gradient of W would, and W has none. "
           "bitsandbytes carried this until its pull request 1270.")  # fmt: skip


def nodes(node, seen=None):
    """The nodes of the graph below one output."""
    seen = set() if seen is None else seen
    if node is not None and node not in seen:
        seen.add(node)
        for below, _ in node.next_functions:
            nodes(below, seen)
    return seen


def attributes(node):
    """Tensors stored on a custom function's ctx by hand (ctx.W = W), which no hook sees."""
    held = getattr(node, "__dict__", {})
    return [t for t in held.values() if torch.is_tensor(t)]


# LoRA over it


def adapted(make, rng, r=4, alpha=6.0):
    base = plain_base(rng)
    layer = make(base, CODE, r, alpha)
    expect(isinstance(layer, Adapter), "make it a subclass of Adapter, so that inject can find what it owns.")
    A, B = getattr(layer, "A", None), getattr(layer, "B", None)
    for name, value, shape in (("A", A, (r, D_IN)), ("B", B, (D_OUT, r))):
        expect(isinstance(value, nn.Parameter), f"self.{name} must be an nn.Parameter: only that trains.")
        expect(tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, wanted {shape}.")
    return base, layer, A, B


def base_is_packed(make, rng):
    base, layer, _, _ = adapted(make, rng)
    expect(layer.base is not base, "the base is still the plain layer, with all its bits: super().__init__ takes the "
           "4-bit one, Linear4bit(base, code).")  # fmt: skip
    for name, t in tensors_in(layer):
        whole = t.numel() >= D_OUT * D_IN and t.is_floating_point()
        expect(
            not whole,
            f"the weight is still there, as {name}: with it, nothing is saved. Keep only Linear4bit(base, code).",
        )
    there = any(t.dtype == torch.uint8 for _, t in tensors_in(layer.base))
    expect(there, "self.base holds no bytes: put Linear4bit(base, code) there.")


def starts_as_4bit(make, rng):
    base, layer, A, B = adapted(make, rng)
    expect(A.any() or B.any(), "A and B are both zero: the gradient of each holds the other, and none ever moves.")
    expect(
        not B.any() or not A.any(), "A and B are both random: before any training the output must be that of the base."
    )
    x = draw(rng, 3, D_IN)
    want = x @ stored(base).T + base.bias.detach()
    name_the_fault(run(layer, x, shapes=FIT), want, {
        "before training that is the plain layer's output: the base is not the 4-bit one.": base(x).detach(),
        "the base's own output is missing: LoRA adds to the layer.": torch.zeros(3, D_OUT),
    }, "before training the output must be that of Linear4bit(base, code).")  # fmt: skip


def adds_in_full(make, rng):
    for r, alpha in ((4, 6.0), (2, 5.0)):
        base, layer, A, B = adapted(make, rng, r, alpha)
        with torch.no_grad():
            A.copy_(draw(rng, r, D_IN)), B.copy_(draw(rng, D_OUT, r))
        x = draw(rng, 3, D_IN)
        frozen, edit = x @ stored(base).T + base.bias.detach(), x @ A.detach().T @ B.detach().T
        coarse = [rounded(each.detach(), "nf4", 64, False) for each in (A, B)]
        W = stored(base) + alpha / r * B.detach() @ A.detach()
        got = run(layer, x, shapes=FIT)
        name_the_fault(got, frozen + alpha / r * edit, {
            "multiplied by α; it must be α / r.": frozen + alpha * edit,
            "not scaled: multiply by α / r.": frozen + edit,
            "the frozen layer's own output is missing.": alpha / r * edit,
            "A and B have no effect.": frozen,
            "A and B are rounded to 4 bits as well. They train: they keep all their bits.":
                frozen + alpha / r * (x @ coarse[0].T @ coarse[1].T),
            "the inputs are rounded. In QLoRA x keeps all its bits: only the stored W has four.":
                (torch.round(15 * x) / 15) @ W.T + base.bias.detach(),
            "the change is added to the weight and rounded with it: most of it is lost.":
                x @ rounded(W, "nf4", 64, False).T + base.bias.detach(),
        }, "the output must be base(x) + α / r · (x Aᵀ) Bᵀ.")  # fmt: skip


def two_train(make, rng):
    _, layer, A, B = adapted(make, rng)
    moving = [p for p in layer.parameters() if p.requires_grad]
    expect(
        all(p is A or p is B for p in moving), "more than A and B trains: super().__init__ freezes what it is given."
    )
    expect(len(moving) == 2, "A or B is frozen, so that nothing learns.")
    with torch.no_grad():
        A.copy_(draw(rng, *A.shape)), B.copy_(draw(rng, *B.shape))
    y = run(layer, draw(rng, 3, D_IN), shapes=FIT).sum()
    grads = torch.autograd.grad(y, (A, B), allow_unused=True) if y.requires_grad else (None, None)
    for name, grad in zip("AB", grads, strict=True):
        expect(grad is not None and grad.any(), f"no gradient reaches {name}: is something detached?")


# What a second rounding leaves


def cases(rng):
    """Weights as four bits leave them, and changes from far under a step to several."""
    for size in (0.02, 0.3, 1.5):
        W = rounded(draw(rng, 24, 64), "nf4", 64, False)
        yield W, size * draw(rng, 24, 64)


def fraction(W, change):
    again = rounded(W + change, "nf4", 64, False)
    return (((again - W) * change).sum() / change.square().sum()).item()


def told(survives, W, change):
    before = W.clone(), change.clone()
    got = run(survives, W, change, CODE, shapes="the shapes do not fit: W and the change are (d_out, d_in) both.")
    same = torch.equal(W, before[0]) and torch.equal(change, before[1])
    expect(same, "it changed its input in place; make a new tensor instead.")
    expect(got is not None, "it returned None: is a `return` missing?")
    expect(not torch.is_tensor(got) or got.numel() == 1, "one number for the whole matrix is wanted.")
    return got


def right_fraction(survives, rng):
    slips = {
        "nothing was rounded: quantise W + change, and dequantise it.": lambda W, d, again: 1.0,
        "W was not taken off: what moved is the new weight minus W.":
            lambda W, d, again: ((again * d).sum() / d.square().sum()).item(),
        "only the change was rounded. It is the sum W + change that goes back into four bits.":
            lambda W, d, again: ((rounded(d, "nf4", 64, False) * d).sum() / d.square().sum()).item(),
        "that is |moved| / |change|. It counts noise as survival: use the part along the change.":
            lambda W, d, again: ((again - W).norm() / d.norm()).item(),
        "that is the share of weights that moved, and many of them moved by noise: use the part along the change.":
            lambda W, d, again: (again != W).float().mean().item(),
        "that is the share that is lost; the share that survives is wanted.": lambda W, d, again: 1 - fraction(W, d),
        "divided by ⟨moved, moved⟩: the share is one of the change, ⟨change, change⟩.":
            lambda W, d, again: (((again - W) * d).sum() / (again - W).square().sum().clamp_min(1e-9)).item(),
        "that is in per cent: a share is a part of 1.": lambda W, d, again: 100 * fraction(W, d),
        "that is a cosine: divide by ⟨change, change⟩, not by both norms.":
            lambda W, d, again: ((again - W) * d).sum().item() / ((again - W).norm() * d.norm()).clamp_min(1e-9).item(),
        "that is |error| / |change|, the noise included: use the part along the change.":
            lambda W, d, again: ((again - W - d).norm() / d.norm()).item(),
    }  # fmt: skip
    every = [(W, d, told(survives, W, d)) for W, d in cases(rng)]
    numbers = [as_number(got) for _, _, got in every]
    advice = "⟨moved, change⟩ / ⟨change, change⟩, where moved = (W + change rounded again) - W."
    for said, slip in slips.items():
        wrong = [slip(W, d, rounded(W + d, "nf4", 64, False)) for W, d, _ in every]
        if all(abs(n - w) < 1e-4 for n, w in zip(numbers, wrong, strict=True)):
            advice = said
    for (W, d, _), value in zip(every, numbers, strict=True):
        expect(abs(value - fraction(W, d)) < 2e-3, advice)  # a division may round one index in a million otherwise


def as_number(got):
    expect(
        isinstance(got, (int, float)) or torch.is_tensor(got), f"{type(got).__name__} came back; a number is wanted."
    )
    return float(got)


def is_a_number(survives, rng):
    W, d = next(iter(cases(rng)))
    got = told(survives, W, d)
    expect(isinstance(got, float), f"give a float: {type(got).__name__} came back (`.item()` turns a tensor into one).")
