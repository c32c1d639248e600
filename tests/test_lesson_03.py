"""Lesson 03: its exercises agree with the package, and its saved runs hold what it says.

What every lesson does stands in test_lessons.py.
"""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from peft_from_scratch import merge, plots, trained, widgets
from peft_from_scratch.check import grade, lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.choose_price import price
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course import saved
from peft_from_scratch.data import batches, encode, load_data
from peft_from_scratch.measure import step_flops
from peft_from_scratch.methods.selective import bitfit, head, ln_tuning, top_k
from peft_from_scratch.models import load
from peft_from_scratch.quiz.verify import minilm
from peft_from_scratch.train import fit

LESSON = lesson("03")
TASKS = {task.name: task for task in LESSON.exercises}
NOTEBOOK = json.loads((Path(__file__).parents[1] / "notebooks" / "03_choose.ipynb").read_text(encoding="utf-8"))
CELLS = {cell["id"]: "".join(cell["source"]) for cell in NOTEBOOK["cells"]}
WORKED = CELLS["worked"]
NAMES = {"re": re} | {k: v for k, v in execute(WORKED, {}, "worked").items() if k in ("train_only", "embeddings_only")}


def written():
    """Everything that the references and the worked cell define."""
    space = dict(NAMES)
    for task in LESSON.exercises:
        space = execute(task.reference, scratch(task, space), task.name)
    return space


MINE = written()
HOSTS = {
    "tiny-bert": ("classify", "bert.encoder.layer", ("bert.pooler", "classifier"), ("classifier",)),
    "tiny-gpt2": ("generate", "transformer.h", ("transformer.ln_f",), ()),
    "tiny-llama": ("classify", "model.layers", ("model.norm", "score"), ("score",)),
}
CHOICES = {
    "head": (lambda m, stack, above, top: MINE["head_only"](m, top),
             lambda m, stack, above, top: head.head_only(m, pattern(top))),
    "top 1": (lambda m, stack, above, top: MINE["top_k"](m, 1, stack, above),
              lambda m, stack, above, top: top_k.top_k(m, 1, pattern(above), stack)),
    "top 2": (lambda m, stack, above, top: MINE["top_k"](m, 2, stack, above),
              lambda m, stack, above, top: top_k.top_k(m, 2, pattern(above), stack)),
    "bitfit": (lambda m, stack, above, top: MINE["bitfit"](m, top),
               lambda m, stack, above, top: bitfit.bitfit(m, pattern(top))),
    "ln": (lambda m, stack, above, top: MINE["ln_tuning"](m, top),
           lambda m, stack, above, top: ln_tuning.ln_tuning(m, head=pattern(top))),
}  # fmt: skip


def pattern(modules):
    return "|".join(map(re.escape, modules)) or None


def flagged(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def plain_names(model):
    """What trains in a model with adapters, by the name that the number has in the plain model."""
    return {re.sub(r"\.b$", ".bias", name.replace(".trained.", ".")) for name in trained(model)}


NOTHING_TO_CHOOSE = {("tiny-gpt2", "head"), ("tiny-llama", "bitfit")}
PAIRS = [(n, k) for n in HOSTS for k in CHOICES if (n, k) not in NOTHING_TO_CHOOSE]


@pytest.mark.parametrize("name, kind", PAIRS)
def test_the_references_choose_what_the_package_chooses(name, kind):
    task, *where = HOSTS[name]
    mine, theirs = CHOICES[kind]
    one, other = mine(load(name, task)[0], *where), theirs(load(name, task)[0], *where)
    assert flagged(one) == plain_names(other)
    ids = torch.arange(12).reshape(2, 6) + 7
    batch = {"input_ids": ids, "labels": ids[:, 0] % 2 if task == "classify" else ids}
    assert step_flops(one, batch) == step_flops(other, batch)


@pytest.mark.parametrize("kind", CHOICES)
def test_training_gives_the_package_s_weights(kind):
    _, *where = HOSTS["tiny-bert"]
    model, tokenizer = load("tiny-bert")
    texts = batches(encode(load_data("toy")["train"].select(range(24)), tokenizer, 16), 8, tokenizer.pad_token_id)
    one, other = (choose(copy.deepcopy(model), *where) for choose in CHOICES[kind])
    for each in (one, other):
        fit(each, texts, lr=1e-2, progress=False)
    after, start = merge(other).state_dict(), model.state_dict()
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, after[key], rtol=1e-4, atol=1e-6)
        assert torch.equal(value, start[key]) or key in flagged(one)


def test_on_a_llama_bitfit_is_silent_here_and_refused_by_the_package():
    assert not flagged(MINE["bitfit"](load("tiny-llama", "generate")[0], ()))
    with pytest.raises(ValueError, match="no biases"):
        bitfit.bitfit(load("tiny-llama", "generate")[0])


@pytest.mark.parametrize("k", range(4))
def test_the_formula_is_near_the_counter(k):
    """The lowest trained layer passes nothing down, so the counter lies a little below."""
    names = flagged(MINE["top_k"](minilm(), k, "bert.encoder.layer", ("bert.pooler", "classifier")))
    formula = MINE["flops_ratio"](6, k)
    assert -0.016 < price(frozenset(names)) - formula < 0.001
    if k:
        assert price(frozenset(names)) < formula - 0.01


def test_thin_methods_cost_two_thirds_and_a_little():
    for name in ("bitfit", "ln_tuning"):
        names = flagged(MINE[name](minilm(), ("classifier",)))
        assert 0 < price(frozenset(names)) - MINE["thin_ratio"](6, 6) < 0.015
    assert price(frozenset(flagged(NAMES["embeddings_only"](minilm())))) > 2 / 3


def test_the_cache_trains_the_head_that_the_model_trains():
    """In eval mode the classifier's answer to the cached features is the model's."""
    model, tokenizer = load("tiny-bert")
    rows = encode(load_data("toy")["train"].select(range(20)), tokenizer, 16)
    pages = batches(rows, 8, tokenizer.pad_token_id, shuffle_seed=0)
    x, y = MINE["cache_features"](model.train(), pages)
    given = [{k: t for k, t in page.items() if k not in ("index", "labels")} for page in pages]
    with torch.no_grad():
        want = torch.cat([model.eval()(**page).logits for page in given])
    torch.testing.assert_close(model.classifier(x), want)
    assert torch.equal(y, torch.cat([page["labels"] for page in pages])) and not x.requires_grad


def with_body(name, old, new):
    assert old in TASKS[name].reference
    return name, TASKS[name].reference.replace(old, new)


OTHER_RIGHT_ANSWERS = {
    "any": with_body("choose.head", 'name.startswith(tuple(f"{module}." for module in modules))',
                     'any(name.startswith(module + ".") for module in modules)'),
    "parts": with_body("choose.head", 'name.startswith(tuple(f"{module}." for module in modules))',
                       'any(name.split(".")[: len(m.split("."))] == m.split(".") for m in modules)'),
    "regex": with_body("choose.head", 'name.startswith(tuple(f"{module}." for module in modules))',
                       'any(re.match(re.escape(m) + r"\\.", name) for m in modules)'),
    "freeze below": with_body(
        "choose.top_k", 'chosen = [f"{stack}.{i}" for i in range(L - k, L)] + list(head)',
        'below = [f"{stack}.{i}" for i in range(L - k)]\n'
        '    chosen = [m for m, _ in model.get_submodule(stack).named_children()]\n'
        '    chosen = [f"{stack}.{m}" for m in chosen if f"{stack}.{m}" not in below] + [*head]'),
    "last part": with_body("choose.bitfit", 'name.endswith(".bias")', 'name.split(".")[-1] == "bias"'),
    "by flags": ("choose.bitfit", "def bitfit(model, head):\n    for name, p in model.named_parameters():\n"
                 '        p.requires_grad = name.endswith("bias") or within(name, head)\n    return model'),
    "by shape": ("choose.ln", "def ln_tuning(model, head):\n    chosen = []\n"
                 "    for name, m in model.named_modules():\n"
                 '        if not list(m.children()) and hasattr(m, "weight") and m.weight.ndim == 1:\n'
                 '            chosen += [f"{name}.{key}" for key, _ in m.named_parameters()]\n'
                 "    return train_only(model, chosen + [n for n, _ in model.named_parameters() if within(n, head)])"),
    "one fraction": with_body("choose.flops", "1 / 3 + 2 / 3 * k / L", "(L + 2 * k) / (3 * L)"),
    "letters": ("choose.order", 'order = "dbfch"'),
    "optimiser first": ("choose.order", 'order = ["D", "F", "B", "C", "H"]'),
    "inference": with_body("choose.cache", "@torch.no_grad()", "@torch.inference_mode()"),
    "detached": ("choose.cache", "def cache_features(model, batches):\n    model = model.eval()\n    pairs = []\n"
                 "    for b in batches:\n        out = model.base_model(input_ids=b['input_ids'], "
                 "attention_mask=b['attention_mask'])\n"
                 "        pairs.append((out.pooler_output.detach(), b['labels']))\n"
                 "    return tuple(map(torch.cat, zip(*pairs)))"),
    "a hook": ("choose.cache", "def cache_features(model, batches):\n    x = []\n"
               "    hook = model.classifier.register_forward_pre_hook(lambda m, given: x.append(given[0].detach()))\n"
               "    for b in batches:\n        model.eval()(b['input_ids'], b['attention_mask'])\n    hook.remove()\n"
               "    return torch.cat(x), torch.cat([b['labels'] for b in batches])"),
    "less, but enough": ("choose.subset",
                         r'subset = r"bert\.encoder\.layer\.(5\..*|4\.(intermediate|output)\.dense\.weight)|'
                         r'bert\.pooler\..*|classifier\.(weight|bias)"'),
}  # fmt: skip


def test_features_taken_in_inference_mode_serve_the_cells_that_follow(capsys):
    """Such tensors cannot be saved for a backward pass: the notebook must not ask for one where it only looks."""
    with torch.inference_mode():
        x, y = torch.randn(20, 5), torch.arange(20) % 2
    told = {}
    space = {"torch": torch, "nn": nn, "x": x, "y": y, "small": None, "pages": {"test": []}, "reveal": told.__setitem__}
    space["cache_features"] = lambda model, pages: (x, y)
    exec(CELLS["epochs-run"].split("small =")[0] + CELLS["heart-run"], space)
    assert 0 <= told["03.coins"] <= 100 and "coins for labels" in capsys.readouterr().out


@pytest.mark.parametrize("name, answer, said", [
    ("choose.ln", 'def ln_tuning(model, head):\n    return train_only(model, [f"{n}.{key}" for n, m in '
     'model.named_modules() if "Norm" in type(m).__name__ for key, _ in m.named_parameters()] + '
     "[n for n, _ in model.named_parameters() if within(n, head)])", "a class may have any name"),
    ("choose.flops", "def flops_ratio(L, k):\n    return (L + 2 * k) / (3 * L)\n\n\n"
     "def thin_ratio(L, depth):\n    return (L + 2 * depth) / (3 * L)", "training these layers in full"),
    ("choose.flops", "def flops_ratio(L, k):\n    return (L + 2 * k - 1) / (3 * L)\n\n\n"
     "def thin_ratio(L, depth):\n    return (L + depth) / (3 * L)", "is spared"),
])  # fmt: skip
def test_another_way_to_write_a_fault_is_named_too(name, answer, said):
    space = execute(answer, scratch(TASKS[name], NAMES), "another")
    result = grade(TASKS[name], {each: space[each] for each in TASKS[name].names})
    assert not result.passed and said in result.first_failure


# --- figures and widget


def test_the_filled_field_is_the_formula():
    fig, alt = plots.layer_stack("top 2", 6, 2, 2, 3_697_538, 0.542)
    filled = [bar for bar in fig.axes[0].patches if bar.get_facecolor()[3] > 0]
    assert len(filled) / 18 == pytest.approx(MINE["flops_ratio"](6, 2))
    assert "10, or 55.6 %" in alt and "Counted: 54.2 %" in alt and "3,697,538" in alt


def test_the_slider_tells_another_choice(capsys):
    box = widgets.sliding(lambda k: plots.layer_stack(f"top {k}", 6, k, k, 10, 0.5), [1, 2, 6], 1, "k")
    box.children[0].value = 6
    assert "18, or 100 %" in box.children[1].value
    widgets.slider(lambda k: plots.layer_stack(f"top {k}", 6, k, k, 10, 0.5), [1, 2], 2, "k")
    assert "a step needs 10" in capsys.readouterr().out


# --- the saved runs: what the text says of them


def test_the_kept_ladder_tells_the_price_of_every_rung():
    rows = {row["name"]: row for row in saved("03_ladder")["rows"]}
    rungs = [name for name in rows if name.startswith("top")]
    assert {"head only", *(f"top {k}" for k in range(1, 7)), "full", "BitFit", "LN-tuning"} == set(rows)
    for name in rungs:
        k = int(name.removeprefix("top "))
        names = flagged(MINE["top_k"](minilm(), k, "bert.encoder.layer", ("bert.pooler", "classifier")))
        assert rows[name]["flops"] == pytest.approx(price(frozenset(names)), abs=1e-3)
        assert rows[name]["trained"] == sum(p.numel() for n, p in minilm().named_parameters() if n in names)
    assert all(len(row["accuracy"]) == 3 and row["lr"] > 0 for row in rows.values())


def test_the_kept_ladder_says_what_the_text_says():
    """The notebook's sentences under the figure, one an assertion."""
    rows = {row["name"]: row for row in saved("03_ladder")["rows"]}
    score = {name: sum(row["accuracy"]) / len(row["accuracy"]) for name, row in rows.items()}
    climb = score["full"] - score["head only"]
    assert score["top 1"] - score["head only"] > climb / 2 and rows["top 1"]["flops"] < 0.5
    runs, high = rows["full"]["accuracy"], [score["full"], *(score[f"top {k}"] for k in range(3, 7))]
    assert max(high) - min(high) <= max(runs) - min(runs)
    for thin in ("BitFit", "LN-tuning"):
        assert rows[thin]["flops"] > rows["top 3"]["flops"] and score[thin] < score["top 1"]


def test_each_fault_of_the_museum_is_shown_with_its_issue():
    runs = saved("03_museum")["runs"]
    assert next(iter(runs)) == "as it should be"
    assert all("#" in run["shipped"] for name, run in list(runs.items())[1:])


@pytest.mark.parametrize("name", ["03_ladder", "03_museum"])
def test_saved_runs_say_where_they_come_from(name):
    kept = saved(name)
    assert kept["setting"] and kept["provenance"]["model_sha256"] and kept["provenance"]["data_sha256"]


def test_the_figure_says_what_it_shows():
    rows = saved("03_ladder")["rows"]
    fig, alt = plots.ladder(rows)
    assert "BitFit: 26,882 numbers, 0.676 of the FLOPs" in alt and len(fig.axes[0].texts) == len(rows)
