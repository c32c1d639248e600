"""Lesson 02: its exercises agree with the package, and say what they mean.

What every lesson does stands in test_lessons.py.
"""

import copy
import difflib
import re

import pytest
import torch
from torch import nn

import peft_from_scratch as pfs
from peft_from_scratch.check import grade, lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.grading import execute, from_namespace
from peft_from_scratch.methods.table import pages
from peft_from_scratch.models import load

LESSON = lesson("02")
TASKS = {task.name: task for task in LESSON.exercises}


def put(model, name, new):
    """As the notebook has it."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)


NAMES = {"re": re, "copy": copy, "difflib": difflib, "put": put}


def space_of(task):
    return {**scratch(task), **NAMES}


def reference(name):
    task = TASKS[name]
    return from_namespace(task, execute(task.reference, space_of(task), name))


# the references are the package's functions


class Mine(nn.Module):
    """A LoRA as the notebook has it."""

    def __init__(self, base, r=2, alpha=6):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / r

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T

    def merged(self):
        layer = copy.deepcopy(self.base)
        layer.weight.data += self.scale * self.B.data @ self.A.data
        return layer


SITES = r".*\.attention\.self\.(query|value)"


def pair():
    """One tiny BERT adapted by the references, one by the package, with the same trained numbers."""
    mine = reference("mechanism.inject")(load("tiny-bert")[0], {SITES: Mine, "classifier": pfs.Replaced})
    theirs = pfs.inject(load("tiny-bert")[0], {SITES: lambda base: pfs.LoRA(base, 2, 6), "classifier": pfs.Replaced})
    own = {name: p for name, p in mine.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in own.values():
            p.copy_(torch.randn_like(p) / 10)
        for p, q in zip(pfs.trained(theirs).values(), own.values(), strict=True):
            p.copy_(q)
    return mine, theirs


def answers(model):
    with torch.inference_mode():
        return model.eval()(input_ids=torch.arange(7, 31).reshape(2, 12)).logits


def test_inject_and_state_are_the_packages():
    mine, theirs = pair()
    torch.testing.assert_close(answers(mine), answers(theirs))
    ours = reference("mechanism.state")(mine)
    assert [name for name, p in mine.named_parameters() if p.requires_grad] == list(ours)
    for t, u in zip(ours.values(), pfs.adapter_state(theirs).values(), strict=True):
        torch.testing.assert_close(t, u)


def test_remove_and_merge_are_the_packages():
    mine, theirs = pair()
    remove, merge = reference("mechanism.remove")
    torch.testing.assert_close(answers(merge(mine)), answers(pfs.merge(theirs)))
    base = load("tiny-bert")[0]
    assert torch.equal(answers(remove(mine)), answers(base)) and torch.equal(answers(pfs.remove(theirs)), answers(base))
    assert mine.state_dict().keys() == base.state_dict().keys()


def test_freeze_is_the_packages():
    for freeze in (reference("mechanism.freeze"), pfs.freeze):
        layer = nn.Linear(3, 2)
        layer(torch.randn(4, 3)).sum().backward()
        assert freeze(layer) is layer
        assert not any(p.requires_grad or p.grad is not None for p in layer.parameters())


def test_the_families_are_the_packages():
    said = {card.name: card.category.split(":")[0] for card, _, _ in pages()}
    families = reference("families.sort")
    assert families == {name: said[name] for name in families}


def swapped(name, *pairs):
    """A reference with some of its text replaced."""
    source = TASKS[name].reference
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


OTHER_RIGHT_ANSWERS = {
    "freeze by zero_grad": ("mechanism.freeze", "def freeze(model):\n    model.zero_grad(set_to_none=True)\n"
                            "    return model.requires_grad_(False)"),
    "inject with setattr": ("mechanism.inject", swapped("mechanism.inject", (
        "model.set_submodule(name, factory(model.get_submodule(name)))",
        "*path, last = name.split('.')\n        parent = model.get_submodule('.'.join(path))\n"
        "        setattr(parent, last, factory(getattr(parent, last)))"))),
    "inject with put": ("mechanism.inject", swapped(
        "mechanism.inject", ("model.set_submodule(", "put(model, "))),
    "inject lists modules": ("mechanism.inject", swapped("mechanism.inject", (
        "for name, factory in found.items():", "for name in list(found):\n        factory = found[name]"))),
    "state by loop": ("mechanism.state", "def adapter_state(model):\n    state = {}\n"
                      "    for n, p in model.named_parameters():\n        if p.requires_grad:\n"
                      "            state[n] = p.data.clone()\n    return state"),
    "load by asserts": ("mechanism.load", """def load_adapter(model, state):
    live = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert not set(live) - set(state), f"missing {set(live) - set(state)}"
    assert not set(state) - set(live), f"unknown {set(state) - set(live)}"
    for n, p in live.items():
        assert p.shape == state[n].shape, n
    for n, p in live.items():
        p.data.copy_(state[n])
    return model"""),
    "load by load_state_dict": ("mechanism.load", """def load_adapter(model, state):
    live = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for n in {**live, **state}:
        if n not in live or n not in state or live[n].shape != state[n].shape:
            raise ValueError(n)
    model.load_state_dict(state, strict=False)
    return model"""),
    "order as text": ("mechanism.order", 'order = "aiehcfd"'),
    "the other machine's base first": ("mechanism.order", 'order = ["H", "A", "I", "E", "C", "F", "D"]'),
    "both machines at once": ("mechanism.order", 'order = ["A", "H", "C", "I", "E", "F", "D"]'),
    "remove with put": ("mechanism.remove", swapped("mechanism.remove", (
        "model.set_submodule(name, module.base)", "put(model, name, module.base)"))),
    "merge by vars": ("mechanism.remove", swapped(
        "mechanism.remove", ('hasattr(module, "base")', '"base" in module._modules'))),
    "swap on its own": ("mechanism.swap", """def swap(model, state):
    live = {n: p for n, p in model.named_parameters() if p.requires_grad}
    old = {n: p.detach().clone() for n, p in live.items()}
    with torch.no_grad():
        for n, p in live.items():
            p.copy_(state[n])
    return old"""),
}  # fmt: skip


def test_a_misspelled_word_costs_only_its_own_family():
    task = TASKS["families.sort"]
    said = {**reference("families.sort"), "FourierFT": "reparametrised"}
    assert grade(task, said).failed == ("says one of four words for each card", "reparametrized: the right cards")


# the figures, the widget's function, the museum


def test_rules_of_the_pattern_explorer():
    from peft_from_scratch.widgets import matching, pattern_explorer

    names = ["layer.0.output.dense", "layer.0.attention.output.dense", "pre_classifier", "classifier"]
    assert matching(names, "output.dense", "its end")[0] == names[:2]
    assert matching(names, "classifier", "the whole name")[0] == ["classifier"]
    assert matching(names, "classifier", "any part of it")[0] == names[2:]
    assert "no regular expression" in matching(names, "(", "the whole name")[1]
    pattern_explorer(names, "classifier")  # without a kernel: text


def test_the_widget_follows_its_field():
    pytest.importorskip("ipywidgets")
    from peft_from_scratch.widgets import exploring

    text, rules, out = exploring(["a.b", "b"], "b").children
    assert "1 of 2" in out.value
    rules.value = "its end"
    assert "2 of 2" in out.value
    text.value = "<"
    assert "&lt;" in out.value and "0 of 2" in out.value


def test_figures_say_what_they_show():
    from peft_from_scratch.plots import parameter_lists, reloads

    said = parameter_lists({"before": [("w", True, True)], "after": [("w", False, False), ("A", True, False)]})[1]
    assert "they are the same" in said and "they are not the same" in said
    said = reloads({"x": {"loss": [2.0, 1.0], "accuracy": 80.0, "reloaded": 50.0}})[1]
    assert "x: 80.0 % when trained, 50.0 % when loaded again" in said


def test_the_museum_was_trained_with_minilm():
    from peft_from_scratch.course.saved import saved

    museum = saved("02_museum")
    assert museum["provenance"]["model"] == "minilm"
    runs = museum["runs"]
    assert runs["right"]["reloaded"] == runs["right"]["accuracy"]
    for name in ("only LoRA's names saved", "never frozen"):  # fine when trained, and lost when loaded again
        assert runs[name]["accuracy"] > 70 and runs[name]["reloaded"] < runs[name]["accuracy"] - 10
    assert runs["a dot in setattr"]["accuracy"] < runs["right"]["accuracy"] - 5
    with pytest.raises(FileNotFoundError, match="02_museum"):
        saved("no such run")
