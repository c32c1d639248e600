"""Every method over a 4-bit base: as over the same weights unpacked, or one clear error before anything is changed."""

import copy
from functools import partial

import pytest
import test_contract as contract
import test_prompts as prompts
import torch
from hosts import batch, host, stir
from torch import nn

from peft_from_scratch import LoRA, Replaced, adapter_state, full, inject, load_adapter, merge, remove, trained
from peft_from_scratch.layers import is_4bit, refuse_4bit, weight_of
from peft_from_scratch.methods.adapters.houlsby import houlsby
from peft_from_scratch.methods.adapters.invertible import invertible
from peft_from_scratch.methods.adapters.parallel import parallel
from peft_from_scratch.methods.adapters.pfeiffer import pfeiffer
from peft_from_scratch.methods.adapters.unipelt import unipelt
from peft_from_scratch.methods.lowrank.starts.collect import gradients
from peft_from_scratch.methods.lowrank.starts.loftq import loftq
from peft_from_scratch.methods.representation.lst import LST
from peft_from_scratch.methods.representation.shadow import shadow
from peft_from_scratch.methods.representation.side import SideTuning
from peft_from_scratch.methods.selective.bitfit import bitfit
from peft_from_scratch.methods.selective.fish_mask import fish_mask
from peft_from_scratch.methods.selective.lt_sft import lottery_ticket
from peft_from_scratch.methods.selective.masks import gradient_mask, magnitude_mask
from peft_from_scratch.methods.selective.top_k import top_k
from peft_from_scratch.quant import quantize_, rounded, to_4bit

# These train the weight itself, or a copy of it.
NEED_THE_WEIGHT = {
    "Replaced", "Side-tuning", "Sparse (masks, FISH, LT-SFT)", "SHiRA", "SHiRA, largest weights", "Super-tuning",
    "Super-tuning, smallest", "Super-tuning, Supra", "Diff pruning", "Diff pruning, grouped", "Trainable tokens, head",
}  # fmt: skip
ON_A_BIAS = {"BitFit", "BEFT"}
NOISE_AT_THE_START = {"FRoD", "FRoD, denser"}  # columns of U with no part in W are what rounding makes of 0 / 0
ROWS = [method for method, row in contract.TABLE.items() if "Linear" not in row.not_for]
refusal = partial(pytest.raises, ValueError, match="needs the weight itself, and a 4-bit layer has only codes")


def unpacked(model):
    """`model` with plain layers of the same weights in the place of its 4-bit ones."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if is_4bit(child):
                parent._modules[key] = child.plain(child.dequantized())
    return model


def pair(kind):
    """A host of one 4-bit layer, and of the same layer unpacked; float64, so that a rounding hides no fault."""
    torch.manual_seed(0)
    four = nn.Sequential(to_4bit(contract.KINDS[kind]().double()))
    return four, unpacked(copy.deepcopy(four))


def outputs_and_gradients(model, y, inputs):
    wanted = [*trained(model).values(), *inputs]
    return [y, *torch.autograd.grad(y.square().sum(), wanted, allow_unused=True)]


def same(ours, theirs, tol):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a - b).abs().max() <= tol * (1 + b.abs().max())


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("method", [m for m in ROWS if m not in NEED_THE_WEIGHT])
def test_over_4_bits_as_over_the_unpacked_weight(method, kind):
    found, state = [], {}
    for model in pair(kind):
        x = contract.INPUTS[kind](torch.Generator().manual_seed(3)).double().requires_grad_()
        base = copy.deepcopy(model)
        torch.manual_seed(1)
        model = inject(model, {"0": contract.TABLE[method].factory}).eval()
        if method in NOISE_AT_THE_START:
            state = state or adapter_state(model)
            load_adapter(model, state)
        stir(trained(model).values())
        found.append(outputs_and_gradients(model, model(x), [x]))
        if contract.TABLE[method].merges:
            assert (merge(model)(x) - found[-1][0]).abs().max() <= 1e-10
            assert is_4bit(merge(model)[0]) == (is_4bit(base[0]) and method in ON_A_BIAS)
        assert torch.equal(remove(model)(x), base(x)) and is_4bit(model[0]) == is_4bit(base[0])
    same(*found, tol=1e-10)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("method", sorted(NEED_THE_WEIGHT))
def test_methods_that_need_the_weight_itself_refuse_four_bits(method, kind):
    """Packed codes have no gradient: without the error these would train nothing and say nothing."""
    assert method in ROWS
    model, _ = pair(kind)
    with refusal():
        inject(model, {"0": contract.TABLE[method].factory})
    assert is_4bit(model[0])


# Whole models

BODIES = {
    "BitFit": ("bert", lambda m: bitfit(m, head="classifier")),
    "Houlsby": ("bert", lambda m: inject(m, houlsby(m, 6))),
    "Pfeiffer and invertible": ("bert", lambda m: inject(m, invertible(m) | pfeiffer(m, 6))),
    "Parallel": ("llama", lambda m: inject(m, parallel(m, 6))),
    "UniPELT": ("bert", lambda m: inject(m, unipelt(m))),
    "Ladder side tuning": ("llama", lambda m: inject(m, {"model": lambda body: LST(body, 2)})),
    "Shadow": ("llama", lambda m: inject(m, shadow(m, r"model\.layers\.\d+"))),
} | {
    name: (hosts[-1], lambda m, targets=targets: inject(m, targets(m)))
    for name, (targets, hosts, *_) in prompts.METHODS.items()
}


@pytest.mark.parametrize("method", BODIES)
def test_over_a_4_bit_model_as_over_the_unpacked_one(method):
    name, adapted = BODIES[method]
    four = quantize_(host(name)).double()
    found = []
    for model in (four, unpacked(copy.deepcopy(four))):
        torch.manual_seed(1)
        model = adapted(model).eval()
        stir(trained(model).values())
        with prompts.told(model):
            found.append(outputs_and_gradients(model, model(**batch(name)).logits, []))
    assert any(is_4bit(m) for m in four.modules()) and any(g is not None and g.any() for g in found[0][1:])
    same(*found, tol=1e-9)


REFUSED = {
    "full": full,
    "top-k layers": lambda m: top_k(m, 1),
    "a copy of a block": lambda m: inject(m, {r"model\.layers\.1": Replaced}),
    "side-tuning of the body": lambda m: inject(m, {"model": SideTuning}),
    "magnitude mask": magnitude_mask,
    "gradient mask": lambda m: gradient_mask(m, [batch("llama")]),
    "FISH mask": lambda m: fish_mask(m, [batch("llama")]),
    "lottery ticket": lambda m: lottery_ticket(m, copy.deepcopy(m.state_dict())),
    "the gradient for LoRA-GA": lambda m: gradients(m, "all-linear", [batch("llama")]),
    "LoftQ": lambda m: loftq(m, "all-linear", rounded),
}


@pytest.mark.parametrize("method", REFUSED)
def test_what_trains_a_model_in_place_refuses_a_4_bit_one_and_leaves_it(method):
    model = quantize_(host("llama")).requires_grad_(False)
    before, kinds = model(**batch("llama")).logits, [type(m) for m in model.modules()]
    with refusal():
        REFUSED[method](model)
    assert kinds == [type(m) for m in model.modules()] and not trained(model)
    assert torch.equal(model(**batch("llama")).logits, before)


def test_the_parts_of_a_4_bit_model_that_have_weights_train():
    model = quantize_(host("bert"))
    refuse_4bit(model.classifier, "Replaced")
    model = inject(model, {"classifier": Replaced, r".*query": LoRA})
    model(**batch("bert")).loss.backward()
    assert model.classifier.trained.weight.grad.any()
    assert weight_of(model.bert.encoder.layer[0].attention.self.query.base).shape == (24, 24)
