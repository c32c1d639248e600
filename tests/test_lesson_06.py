"""Lesson 06: its exercises agree with the package and bitsandbytes, and its saved runs hold.

What every lesson does stands in test_lessons.py.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from peft_from_scratch import Adapter, LoRA, inject, plots, trained, widgets
from peft_from_scratch.check import lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course import saved
from peft_from_scratch.measure.memory import saving
from peft_from_scratch.models import load
from peft_from_scratch.quant import absmax_quantize, rounded, store, to_4bit
from peft_from_scratch.quant.codes import code_of, dynamic8
from peft_from_scratch.quant.double import quantize_constants

LESSON = lesson("06")
TASKS = {task.name: task for task in LESSON.exercises}
NF4 = code_of("nf4")


def in_blocks(w, block):
    flat = w.detach().float().flatten()
    return F.pad(flat, (0, -len(flat) % block)).view(-1, block)


def quantiles(steps):
    p = torch.linspace(0.9677083, 0.5, steps + 1)[:-1]
    return torch.special.ndtri(p.double()).float()


NAMES = {
    "in_blocks": in_blocks,
    "quantiles": quantiles,
    "Adapter": Adapter,
}  # what the notebook has defined or imported


def reference(name):
    task = TASKS[name]
    space = execute(task.reference, scratch(task, NAMES), name)
    return space[task.names[0]] if len(task.names) == 1 else tuple(space[each] for each in task.names)


# --- the references are the package's functions, and bitsandbytes'


def test_absmax_is_the_package_absmax():
    w = torch.randn(6, 25)
    q, scale = reference("qlora.absmax")(w, 16)
    theirs, absmax = absmax_quantize(w, 4, 16)
    assert torch.equal(q.flatten()[:150].to(torch.int8).view(6, 25), theirs)
    assert torch.equal(scale.flatten(), absmax)


def test_the_code_is_nf4_bit_for_bit():
    assert torch.equal(reference("qlora.nf4")(), NF4)


@pytest.mark.parametrize("shape", [(64, 64), (8, 64), (130, 257), (5, 7), (300, 64)])
def test_quantise_is_the_package_store_bit_for_bit(shape):
    quantise, dequantise = reference("qlora.store")
    w = 0.05 * torch.randn(*shape)
    packed, scale = quantise(w, NF4)
    theirs = store(w, "nf4", 64, False)
    n = w.numel() // 2  # the package keeps no filled-up rest
    assert torch.equal(packed[:n], theirs.packed[:n, 0]) and torch.equal(scale.flatten(), theirs.absmax)
    assert torch.equal(dequantise(packed, scale, NF4, shape), rounded(w, "nf4", 64, False))


def test_the_storage_is_bitsandbytes_bit_for_bit():
    """But for its CPU library, which looks scales up in a table of 65,536 steps: see tests/test_quant.py."""
    bnb = pytest.importorskip("bitsandbytes.functional")
    w = 0.05 * torch.randn(384, 192)
    packed, scale = reference("qlora.store")[0](w, NF4)
    index, largest, mean = reference("qlora.double")(scale.flatten(), dynamic8())
    theirs, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(packed, theirs[:, 0])
    off = (index.int() - state.absmax.int()).abs()
    assert off.max() <= 1 and off.sum() <= 0.005 * len(index)
    assert torch.equal(largest.flatten(), state.state2.absmax) and torch.equal(mean, state.offset)


def test_double_is_the_package_double_quantisation():
    scale = torch.rand(700) + 0.1
    for mine, theirs in zip(reference("qlora.double")(scale, dynamic8()), quantize_constants(scale), strict=True):
        assert torch.equal(mine.reshape(theirs.shape), theirs)


@pytest.mark.parametrize("second, double", [(None, False), (256, True)])
def test_bits_are_those_of_a_stored_layer(second, double):
    layer = to_4bit(nn.Linear(512, 512), double=double)  # 4096 blocks
    mean = 32 / 512**2 if double else 0
    assert reference("qlora.bits")(64, second) + mean == pytest.approx(layer.bits())


def test_the_layer_is_the_package_layer():
    base, x = nn.Linear(64, 24), torch.randn(3, 64)
    mine, theirs = reference("qlora.linear")(base, NF4), to_4bit(base, double=False)
    grads = []
    for layer in (mine, theirs):
        given = x.clone().requires_grad_(True)
        layer(given).square().sum().backward()
        grads.append(given.grad)
    torch.testing.assert_close(mine(x), theirs(x))
    torch.testing.assert_close(*grads)
    with saving(mine) as kept:
        y = mine(x.requires_grad_(True))
    assert sum(kept.values()) == 0 and y.requires_grad


def test_the_adapter_is_lora_on_the_package_layer():
    base, x = nn.Linear(64, 24), torch.randn(3, 64)
    mine, theirs = reference("qlora.layer")(base, NF4, 4, 8), LoRA(to_4bit(base, double=False), rank=4, alpha=8)
    with torch.no_grad():
        for name in "AB":
            getattr(mine, name).normal_()
            getattr(theirs, name).copy_(getattr(mine, name))
    torch.testing.assert_close(mine(x), theirs(x))


def test_the_adapter_goes_into_a_model_that_chats():
    model = load("tiny-llama", "generate")[0]
    make = reference("qlora.layer")
    model = inject(model, {"all-linear": lambda base: make(base, NF4, 2, 4)})
    ids = torch.arange(7, 19)[None]
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in trained(model).values())
    assert len(trained(model)) == 2 * 14
    assert not [n for n, p in model.named_parameters() if "proj.base" in n]  # the plain weights are gone


def test_survives_knows_the_ends():
    survives = reference("qlora.survives")
    W = rounded(torch.randn(64, 64), "nf4", 64, False)
    assert survives(W, 1e-9 * torch.randn(64, 64), NF4) == pytest.approx(0, abs=0.01)  # no weight leaves its mark
    assert survives(torch.zeros(64, 64), W, NF4) == pytest.approx(1)  # what lies on the marks is not rounded


def with_body(name, old, new):
    assert old in TASKS[name].reference
    return name, TASKS[name].reference.replace(old, new)


OTHER_RIGHT_ANSWERS = {
    "maximum of two": with_body("qlora.absmax", "rows.abs().amax(1, keepdim=True)",
                                "torch.maximum(rows.amax(1), -rows.amin(1))[:, None]"),
    "small whole numbers": with_body("qlora.absmax", ", scale", ".to(torch.int8), scale"),
    "flat scales": ("qlora.absmax", "def absmax(w, block):\n    rows = in_blocks(w, block)\n"
                    "    scale = rows.abs().amax(1)\n"
                    "    return torch.round(rows / scale.clamp_min(1e-30)[:, None] * 7), scale"),
    "the inverse written out": ("qlora.nf4", "def nf4_code():\n    up, down = quantiles(8), quantiles(7)\n"
                                "    values = [*(-down).tolist(), 0.0, *up.flip(0).tolist()]\n"
                                "    return torch.tensor(values) / up[0]"),
    "by distance": with_body("qlora.store", "torch.bucketize(x, (code[:-1] + code[1:]) / 2).to(torch.uint8)",
                             "(x[..., None] - code).abs().argmin(-1).to(torch.uint8)"),
    "divided": with_body("qlora.store", "rows * (1 / scale.clamp_min(1e-38))", "rows / scale.clamp_min(1e-12)"),
    "sixteen times": with_body("qlora.store", "index[:, 0] << 4 | index[:, 1]", "16 * index[:, 0] + index[:, 1]"),
    "flat and trimmed": with_body("qlora.store", "return index[:, 0] << 4 | index[:, 1], scale",
                                  "return (index[:, 0] << 4 | index[:, 1])[:, None], scale"),
    "one line": ("qlora.bits", "def bits(block, second=None):\n"
                 "    return 4 + (8 + 32 / second if second else 32) / block"),
    "a string": ("qlora.order", "order = 'hcea'"),
    "bias inside": with_body("qlora.linear", "return y if self.bias is None else y + self.bias.to(y.dtype)",
                             "b = self.bias\n        return y + (0 if b is None else b.to(y.dtype))"),
    "by linear": with_body("qlora.linear", "return x @ dequantise(packed, scale, code, shape).to(x.dtype).T",
                           "return F.linear(x, dequantise(packed, scale, code, shape).to(x.dtype))"),
    "computed in float32": with_body("qlora.linear", "return x @ dequantise(packed, scale, code, shape).to(x.dtype).T",
                                     "return (x.float() @ dequantise(packed, scale, code, shape).T).to(x.dtype)"),
    "bytes kept by name": ("qlora.linear", TASKS["qlora.linear"].reference
                           .replace("ctx.save_for_backward(packed, scale, code)", "ctx.stored = packed, scale, code")
                           .replace("*ctx.saved_tensors", "*ctx.stored")),
    "scale in B": with_body("qlora.layer", "self.s * (x @ self.A.T) @ self.B.T",
                            "F.linear(x @ self.A.T, self.s * self.B)"),
    "float()": with_body("qlora.survives", "return ((moved * change).sum() / change.square().sum()).item()",
                         "return float(moved.flatten() @ change.flatten()) / float(change.norm()) ** 2"),
    "argmin for the constants": with_body(
        "qlora.double", "torch.bucketize(rows * (1 / largest.clamp_min(1e-38)), (code8[:-1] + code8[1:]) / 2)",
        "(rows[..., None] / largest[..., None] - code8).abs().argmin(-1)"),
}  # fmt: skip


# --- the saved runs: what the text says of them


def test_the_judge_is_no_party():
    kept = saved("06_codes")
    at_64 = {code: errors[kept["blocks"].index(64)] for code, errors in kept["minilm"].items()}
    assert at_64["nf4"] < at_64["naive"] < at_64["int4"] and abs(at_64["affine"] - at_64["nf4"]) < 1e-3
    assert kept["minilm, one scale a matrix"]["int4"] > 4 * at_64["int4"]
    assert kept["smollm2"]["affine, block 32"] < 1e-6 < 0.05 < kept["smollm2"]["nf4, block 64"]


def test_the_loss_does_not_refute_rounded_inputs_and_the_count_does():
    kept = saved("06_inputs")
    loss, values = kept["loss"], kept["distinct values of an input"]
    assert abs(loss["inputs rounded to 1/15"] - loss["weights in nf4"]) < 0.1
    assert loss["inputs really in 4 bits (absmax of a token)"] > 2 * loss["as it is"]
    assert values["median"] > 3 * 16 and values["most"] > 1000


def test_a_second_rounding_loses_most():
    kept = saved("06_training")
    again = kept["merged, 4 bits again"]
    assert again["survives"]["median"] < 0.05 and again["weights that move"] > 0.8
    assert abs(kept["merged, 16 bits"]["loss"] - kept["QLoRA"]["loss"]) < 0.01
    gained = kept["before, in 4 bits"]["loss"] - kept["QLoRA"]["loss"]
    assert gained > 4 and again["loss"] - kept["QLoRA"]["loss"] > 0.8 * gained  # most of what was learned is gone
    assert abs(kept["LoRA"]["loss"] - kept["QLoRA"]["loss"]) < 0.05 * gained  # four bits cost next to nothing here
    assert all(said.isdigit() for said in kept["QLoRA"]["said"])  # the form is learned


def test_each_fault_of_the_museum_is_there():
    runs = saved("06_museum")["runs"]
    shown = {wrong.museum for task in LESSON.exercises for wrong in task.wrong if wrong.museum}
    assert shown == set(runs) - {"as it should be"}  # each is shown to who makes it
    assert all(run["shipped"] for name, run in runs.items() if name != "as it should be")
    assert all(len(run["loss"]) == len(run["step"]) for run in runs.values())
    right, coarse = runs["as it should be"], runs["one scale a matrix"]
    assert right["accuracy"] - coarse["accuracy"] > 4 and coarse["survives"] < 0.001 < right["survives"] < 0.2
    assert abs(runs["quantiles without a zero"]["accuracy"] - right["accuracy"]) < 3  # as good, where no weight is zero
    assert right["merged"] < right["accuracy"] - 3
    late, flat = runs["no gradient for the input"], runs["inputs rounded, weights not"]

    def falls(run):
        return next(step for step, loss in zip(run["step"], run["loss"], strict=True) if loss < 0.65)

    assert falls(late) > falls(right)
    assert min(flat["loss"]) > 0.65 and flat["accuracy"] < right["accuracy"] - 6 and flat["survives"] is None


@pytest.mark.parametrize("name", ["06_codes", "06_inputs", "06_training", "06_museum"])
def test_saved_runs_say_where_they_come_from(name):
    kept = saved(name)
    assert kept["setting"] and kept["provenance"]["model_sha256"] and kept["provenance"]["data_sha256"]


# --- figures and widget


def test_the_rulers_mark_what_becomes_of_zero():
    naive = torch.special.ndtri((torch.arange(16) + 0.5) / 16)
    codes = {"naive": (naive / naive.max()).tolist(), "NF4": NF4.tolist()}
    fig, alt = plots.rulers([-1.0, 0.0, 0.5, 0.05], codes)
    assert "NF4: 0 becomes 0.000" in alt and "naive: 0 becomes 0.000" not in alt and "4 weights" in alt
    assert fig.axes


CURVE = {b: {"plain": 4 + 32 / b, "double": 4 + 8 / b + 1 / (8 * b), "error": 0.08 + b / 1e4} for b in (16, 64, 256)}


def test_the_widget_redraws(monkeypatch):
    fig, alt = plots.block_size(CURVE, 64)
    assert len(fig.axes) == 2 and "4.500 bits" in alt and "4.127" in alt and "8.6 %" in alt
    box = widgets.sliding(lambda b: plots.block_size(CURVE, b), list(CURVE), 64, "block")
    box.children[0].value = 16
    assert "Blocks of 16: 6.000 bits" in box.children[1].value


def test_without_a_kernel_the_widget_is_a_picture(capsys):
    widgets.slider(lambda b: plots.block_size(CURVE, b), list(CURVE), 64, "block")
    assert "Blocks of 64" in capsys.readouterr().out
