"""Lesson 04: its exercises agree with the package, and its saved runs hold what it says.

What every lesson does stands in test_lessons.py.
"""

import copy
import re

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from peft_from_scratch import Adapter, LoRA, Replaced, inject, plots, trained, widgets
from peft_from_scratch.check import lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course import saved

LESSON = lesson("04")
TASKS = {task.name: task for task in LESSON.exercises}
NAMES = {"copy": copy, "re": re, "Adapter": Adapter, "trained": trained}  # what the notebook imports


def reference(name):
    task = TASKS[name]
    space = execute(task.reference, scratch(task, NAMES), name)
    return space[task.names[0]] if len(task.names) == 1 else tuple(space[each] for each in task.names)


def learned(adapter):
    with torch.no_grad():
        for name, p in (("A", adapter.A), ("B", adapter.B)):
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(ord(name))))
    return adapter


BASES = {
    "lora.layer": (lambda: nn.Linear(7, 5), lambda: torch.randn(2, 3, 7)),
    "lora.conv1d": (lambda: Conv1D(5, 7), lambda: torch.randn(2, 3, 7)),
    "lora.embedding": (lambda: nn.Embedding(9, 5), lambda: torch.randint(9, (2, 3))),
}


@pytest.mark.parametrize("name", BASES)
def test_the_reference_classes_are_the_package_lora(name):
    make, draw = BASES[name]
    base, x = make(), draw()
    mine, theirs = learned(reference(name)(base, 2, 6)), learned(LoRA(base, rank=2, alpha=6))
    torch.testing.assert_close(mine(x), theirs(x))
    merged = copy.deepcopy(base)
    merged.weight.data += mine.change().detach()  # it lies as the weight lies
    torch.testing.assert_close(merged(x), theirs.merged()(x))
    assert {k: v.shape for k, v in mine.own_state().items()} == {k: v.shape for k, v in theirs.own_state().items()}


@pytest.mark.parametrize("name", BASES)
def test_the_reference_classes_go_through_inject(name):
    make, draw = BASES[name]
    model = nn.Sequential(make(), nn.Linear(5, 3))
    x = draw()
    before = model(x)
    inject(model, {"0": lambda base: reference(name)(base, 2, 6), "1": Replaced})
    assert torch.equal(model(x), before)
    model(x).sum().backward()
    assert all(p.grad is not None for p in trained(model).values())


def test_merge_is_the_package_merge():
    merge_layer, merge_error = reference("lora.merge")
    layer, x = learned(LoRA(nn.Linear(7, 5), rank=3, alpha=5)), torch.randn(8, 7)
    torch.testing.assert_close(merge_layer(layer).weight, layer.merged().weight)
    errors = [merge_error(layer, x, dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)]
    assert errors[0] < 1e-14 < errors[1] < 1e-5 < errors[2] < 1e-2 and errors[2] < 2 * errors[3] < 0.1


def test_truncate_is_the_nearest_matrix():
    dW = torch.randn(9, 6)
    B, A = reference("lora.truncate")(dW, 2)
    S = torch.linalg.svdvals(dW)
    torch.testing.assert_close((dW - B @ A).square().sum(), S[2:].square().sum())  # Eckart and Young


def test_the_budget_of_the_syllabus():
    """Query and value at rank 36 cost what all linear layers cost at rank 8, in MiniLM's shape."""
    from peft_from_scratch.quiz.verify import minilm, with_lora

    rank = reference("lora.budget")
    everywhere = sum(p.numel() for p in trained(with_lora("all-linear")).values()) - 770
    assert everywhere == 331_776
    assert rank(minilm(), r".*\.(query|value)", everywhere) == 36
    assert rank(minilm(), r".*encoder\.layer\.\d+\..*", everywhere) == 8


def with_body(name, old, new):
    assert old in TASKS[name].reference
    return name, TASKS[name].reference.replace(old, new)


OTHER_RIGHT_ANSWERS = {
    "diagonal matrices": with_body("lora.truncate", "return U[:, :r] * root, root[:, None] * Vh[:r]",
                                   "D = torch.diag(root)\n    return U[:, :r] @ D, D @ Vh[:r]"),
    "by eigenvectors": ("lora.truncate", "def truncate(dW, r):\n    dW = dW.double()\n"
                        "    values, V = torch.linalg.eigh(dW.T @ dW)\n    V = V.flip(1)[:, :r]\n"
                        "    root = values.flip(0)[:r].clamp_min(0).pow(0.25)\n"
                        "    return dW @ V / root, root[:, None] * V.T"),
    "a string": ("lora.order", "order = 'cfad'"),
    "A zero, B random": with_body("lora.layer", "torch.zeros(base.out_features, r)",
                                  "torch.randn(base.out_features, r)")[:1] + (
        TASKS["lora.layer"].reference.replace("torch.zeros(", "torch.ones(").replace(
            "torch.randn(r, base.in_features)", "torch.zeros(r, base.in_features)"),),
    "functional twice": with_body(
        "lora.layer", "self.scale * (x @ self.A.T) @ self.B.T",
        "self.scale * nn.functional.linear(nn.functional.linear(x, self.A), self.B)"),
    "A drawn in place": with_body(
        "lora.layer", "torch.randn(r, base.in_features) / base.in_features**0.5)",
        "torch.empty(r, base.in_features))\n        nn.init.kaiming_uniform_(self.A, a=5**0.5)"),
    "one merged product": with_body("lora.layer", "self.base(x) + self.scale * (x @ self.A.T) @ self.B.T",
                                    "nn.functional.linear(x, self.base.weight + self.change(), self.base.bias)"),
    "functional": with_body("lora.layer", "self.scale * (x @ self.A.T) @ self.B.T",
                            "nn.functional.linear(x, self.change())"),
    "own scale": with_body("lora.layer", "self.scale = alpha / r\n", "self.scale = alpha * r**-1\n"),
    "a new linear": with_body("lora.merge", "plain = copy.deepcopy(layer.base)\n",
                              "base = layer.base\n    plain = nn.Linear(base.in_features, base.out_features)\n"
                              "    plain.bias, plain.weight = base.bias, base.weight\n"),
    "a new linear in its dtype": with_body(
        "lora.merge", "plain = copy.deepcopy(layer.base)\n", "W = layer.base.weight\n    "
        "plain = nn.Linear(*W.T.shape, dtype=W.dtype)\n    plain.weight, plain.bias = W, layer.base.bias\n"),
    "over the merged output": with_body("lora.merge", "/ apart.abs().max()", "/ whole.abs().max()"),
    "in place on a copy": with_body(
        "lora.merge", "plain.weight = nn.Parameter(plain.weight + layer.change(), requires_grad=False)",
        "plain.weight.data += layer.change().detach()"),
    "shapes of Conv1D": with_body("lora.conv1d", "base.nx) / base.nx**0.5", "base.weight.shape[0]) / 9"),
    "transposes apart": with_body("lora.conv1d", "(self.B @ self.A).T", "self.A.T @ self.B.T"),
    "a loop": ("lora.budget", "def rank_for_budget(model, pattern, budget):\n    r = 0\n    price = 0\n"
               "    for name, m in model.named_modules():\n"
               "        if re.fullmatch(pattern, name) and isinstance(m, nn.Linear):\n"
               "            price += sum(m.weight.shape)\n"
               "    while (r + 1) * price <= budget:\n        r += 1\n    return r"),
    "by requires_grad": ("lora.probe", "def probe(model):\n    found = {}\n    for n, p in trained(model).items():\n"
                         "        found[n] = p.grad if p.grad is None else float(p.grad.norm())\n    return found"),
    "one-hot": with_body("lora.embedding", "self.A.T[x] @ self.B.T",
                         "nn.functional.one_hot(x, self.base.num_embeddings).float() @ self.A.T @ self.B.T"),
    "columns of A": with_body("lora.embedding", "self.A.T[x]", "self.A[:, x].movedim(0, -1)"),
    "embedding of A": with_body("lora.embedding", "self.A.T[x]", "nn.functional.embedding(x, self.A.T)"),
}  # fmt: skip


# --- the saved runs: what the text says of them


def test_the_kept_truncation_says_both_halves():
    kept = saved("04_truncation")
    curve, most = kept["curve"], kept["rank_for_90"]
    at = dict(zip(curve["ranks"], curve["accuracy"], strict=True))
    assert most["median"] > most["of"] / 8  # not of low rank
    assert curve["full"] - at[2] < 0.25 * (curve["full"] - at[0])  # and rank 2 carries most of the gain
    assert curve["dropped"] < at[2]
    assert kept["provenance"]["model_sha256"] and kept["provenance"]["data_sha256"]


def test_the_museum_tells_its_faults_apart():
    runs = saved("04_museum")["runs"]
    assert len(runs) == 5 and all(run["shipped"] for name, run in runs.items() if name != "as it should be")
    assert all(len(run["loss"]) == len(run["step"]) for run in runs.values())
    swapped = runs["A B instead of B A"]
    assert swapped["merged"] < swapped["accuracy"] - 5  # it trains, and its merge is another model


def test_a_saved_run_that_is_not_there_says_which_are():
    with pytest.raises(FileNotFoundError, match="04_museum"):
        saved("04_musem")


# --- figures and widget


def test_the_figures_say_what_they_show():
    fig, alt = plots.truncation(saved("04_truncation")["curve"])
    assert len(fig.axes) == 2 and "rank 2:" in alt and "% of the gain" in alt and "All but the top 8" in alt
    fig, alt = plots.museum(saved("04_museum")["runs"], "as it should be")
    assert len(fig.axes[0].lines) == 5 and "both zero" in alt


def test_cut_to_rank_tells_energy_and_numbers():
    dW = torch.diag(torch.tensor([3.0, 1.0, 1.0, 1.0])) @ torch.eye(4, 6)
    fig, alt = plots.cut_to_rank(dW, 1)
    assert len(fig.axes) == 3 and "Rank 1 holds 75.0 %" in alt and "41.7 % of the numbers" in alt


def test_the_slider_draws_anew(monkeypatch):
    box = widgets.sliding(lambda r: plots.cut_to_rank(torch.eye(5), r), [1, 2, 4], 1, "rank")
    first = box.children[1].value
    box.children[0].value = 4
    assert "Rank 1 holds 20.0 %" in first and "Rank 4 holds 80.0 %" in box.children[1].value


def test_without_a_kernel_the_slider_is_a_picture(capsys):
    widgets.slider(lambda r: plots.cut_to_rank(torch.eye(5), r), [1, 2], 2, "rank")
    assert "Rank 2 holds 40.0 %" in capsys.readouterr().out
    with pytest.raises(ValueError, match="its values are"):
        widgets.slider(lambda r: plots.cut_to_rank(torch.eye(5), r), [1, 2], 3)
