"""What lesson 04 asks of two functions over a whole model: a rank for a budget, and a probe for gradients."""

import re

import torch
from torch import nn

from ..adapt import inject, trained
from ..adapter import Replaced
from ..methods.lowrank.lora import LoRA
from .tools import agrees, draw, expect

# A rank for a budget


def block(d, wide):
    return nn.ModuleDict({
        "query": nn.Linear(d, d), "value": nn.Linear(d, d + 2), "norm": nn.LayerNorm(d),
        "up": nn.Linear(d, wide, bias=False), "output": nn.ModuleDict({"dense": nn.Linear(wide, d)}),
        "query_norm": nn.Linear(d, 3),
    })  # fmt: skip


def toy_model():
    return nn.ModuleDict({"layer": nn.ModuleList([block(6, 11), block(6, 11)]), "head": nn.Linear(6, 2)})


BUDGETS = ((r".*\.(query|value)", 500), (r".*\.(query|value|up|dense)", 1000), (r".*\.output\.dense", 333),
           (r".*\.query", 100), ("layer.1.up", 60), (r".*\.(query|norm)", 200),
           (r"0\.query|layer\.1\.up", 60))  # fmt: skip


def targeted(model, pattern, match=re.fullmatch):
    return [m for name, m in model.named_modules() if match(pattern, name) and isinstance(m, nn.Linear)]


def priced(price, match=re.fullmatch, divide=lambda budget, total: budget // total):
    def rank(model, pattern, budget):
        return divide(budget, sum(price(m.in_features, m.out_features) for m in targeted(model, pattern, match)))

    return rank


def both(i, o):
    return i + o


def linear_only(rank_for_budget):
    """The answer, with a sentence where it takes the wrong modules, or none."""

    def rank(model, pattern, budget):
        try:
            return rank_for_budget(model, pattern, budget)
        except ZeroDivisionError:
            advice = "no layer was found. model.named_modules() goes all the way down; named_children() one level."
        except AttributeError as error:
            if "base_model" in str(error) or "encoder" in str(error):
                advice = "any model may come, not only one with an encoder: walk model.named_modules()."
            elif "in_features" in str(error) or "out_features" in str(error):
                advice = "the pattern can name norms and containers too: take only what is an nn.Linear."
            else:
                raise
        raise AssertionError(advice)

    return rank


def fits(rank_for_budget, rng):
    model, rank_for_budget = toy_model(), linear_only(rank_for_budget)
    agrees(rank_for_budget, [(model, *case) for case in BUDGETS], priced(both), {
        "re.search also takes modules whose name only contains the pattern: use re.fullmatch.":
            priced(both, re.search),
        "that pattern also takes `query_norm`: use re.fullmatch, not re.match.": priced(both, re.match),
        "B is missing: one unit of rank costs d_in + d_out.": priced(lambda i, o: i),
        "A is missing: one unit of rank costs d_in + d_out.": priced(lambda i, o: o),
        "right for square layers only: one unit of rank costs d_in + d_out.": priced(lambda i, o: 2 * i),
        "that prices the frozen matrices. One unit of rank costs d_in + d_out.": priced(lambda i, o: i * o),
        "rounded up: then the budget is exceeded. Round down, with //.":
            priced(both, divide=lambda b, t: -(-b // t)),
        "rounded to the nearest: then the budget is exceeded. Round down, with //.":
            priced(both, divide=lambda b, t: round(b / t)),
        "a rank is a whole number: use //.": priced(both, divide=lambda b, t: b / t),
        "one layer's price: a unit of rank is paid in every layer that is named.":
            lambda m, p, b: b // both(targeted(m, p)[0].in_features, targeted(m, p)[0].out_features),
        "LoRA has no bias of its own.": priced(lambda i, o: i + o + o),
    }, "a unit of rank costs d_in + d_out in each linear layer whose whole name matches: take what fits.")  # fmt: skip


def is_whole(rank_for_budget, rng):
    rank_for_budget = linear_only(rank_for_budget)
    got = rank_for_budget(toy_model(), r".*\.up", 100)
    expect(isinstance(got, int), f"{got!r} is of type {type(got).__name__}; a rank is an int: use //.")
    expect(rank_for_budget(toy_model(), r".*\.up", 5) == 0, "where not even rank 1 fits, the answer is 0.")


# A probe


def probed_model(rng, cut=False):
    """Two LoRA and a head after one backward pass; with `cut`, no gradient reaches the first LoRA."""
    model = nn.Sequential(nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 2))
    inject(model, {"0|1": lambda base: LoRA(base, rank=2, alpha=6), "2": Replaced})
    with torch.no_grad():
        for p in trained(model).values():
            p.copy_(draw(rng, *p.shape))
    hidden = model[0](draw(rng, 4, 7))
    model[2](model[1](hidden.detach() if cut else hidden)).sum().backward()
    return model


def norms_of(model):
    return {name: None if p.grad is None else p.grad.norm().item() for name, p in trained(model).items()}


def answered(probe, model):
    try:
        got = probe(model)
    except AttributeError as error:
        if "NoneType" not in str(error):
            raise
        raise AssertionError("p.grad is None where no gradient came, and None has no norm: ask first.") from None
    expect(got is not None, "None came back: is a `return` missing?")
    expect(isinstance(got, dict), f"{type(got).__name__} came back; a dict from name to norm is wanted.")
    return got


def names_them(probe, rng):
    model = probed_model(rng)
    got, want = set(answered(probe, model)), set(norms_of(model))
    frozen = [name for name in sorted(got - want) if ".base." in f".{name}" or name.startswith("base")]
    expect(not frozen, f"{frozen[0] if frozen else ''} is frozen: it never has a gradient, and drowns the news. "
                       "Ask trained(model).")  # fmt: skip
    expect(got == want, f"the names should be those of trained(model): {', '.join(sorted(want))}.")


def gives_norms(probe, rng):
    model = probed_model(rng)
    want = norms_of(model)
    slips_of = {name: {
        "that is the norm of the parameter; the norm of its *gradient* is wanted.": p.norm().item(),
        "that is the sum, where signs cancel; take the norm.": p.grad.sum().item(),
        "that is the largest entry; take the norm.": p.grad.abs().max().item(),
        "that is the square of the norm.": want[name] ** 2,
    } for name, p in trained(model).items()}  # fmt: skip
    got = answered(probe, model)
    for name, norm in want.items():
        value = got.get(name)
        value = float(value) if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        expect(isinstance(value, float), f"{name} gives {value!r}; a number is wanted: the norm of its gradient.")
        for advice, slip in slips_of[name].items():
            expect(abs(value - norm) <= 1e-4 * norm or abs(value - slip) > 1e-4 * abs(slip), advice)
        expect(abs(value - norm) <= 1e-4 * norm, "the norm of each gradient is wanted: p.grad.norm().item().")


def tells_none(probe, rng):
    model = probed_model(rng)
    name, p = next(iter(trained(model).items()))
    p.grad.zero_()  # as in A at the first step
    expect(answered(probe, model).get(name) is not None, f"the gradient of {name} is there, and exactly zero: say 0.0. "
           "None is for a gradient that never came.")  # fmt: skip
    model = probed_model(rng, cut=True)
    want = norms_of(model)
    got = answered(probe, model)
    for name in want:
        if want[name] is None:
            expect(name in got, f"{name} has no gradient at all, and it is missing from the answer. "
                                "That is the very tensor to report.")  # fmt: skip
            expect(got[name] is None, f"{name} has no gradient, and you say {got[name]}. Zero is a healthy first value "
                                      "of A; no gradient is a fault. Say None.")  # fmt: skip


def leaves_gradients(probe, rng):
    model = probed_model(rng)
    before = norms_of(model)
    answered(probe, model)
    expect(norms_of(model) == before, "the gradients are gone or changed after the probe: only look at them.")
