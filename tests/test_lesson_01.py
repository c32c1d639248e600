"""Lesson 01: its exercises agree with the package's counter, and its saved runs hold.

What every lesson does stands in test_lessons.py.
"""

import copy

import pytest
import torch
from torch import nn

from peft_from_scratch import LoRA, Replaced, full, head_only, inject, measure, plots, widgets
from peft_from_scratch.check import lesson
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.costs_runs import Writer, hosts, pair, texts
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course import saved
from peft_from_scratch.measure import formulas
from peft_from_scratch.measure.chosen import full_batch
from peft_from_scratch.measure.costs import predicted
from peft_from_scratch.measure.meta import as_on
from peft_from_scratch.measure.shapes import config_of, random_model
from peft_from_scratch.models import load
from peft_from_scratch.train import lm_loss

LESSON = lesson("01")
TASKS = {task.name: task for task in LESSON.exercises}
QV = r".*\.(query|value)"
WAYS = {
    "full": full,
    "LoRA q,v": lambda model: inject(model, {QV: LoRA, "classifier": Replaced}),
    "LoRA all": lambda model: inject(model, {"all-linear": LoRA, "classifier": Replaced}),
    "head only": head_only,
}
each_way = pytest.mark.parametrize("way", WAYS)


def reference(name):
    task = TASKS[name]
    space = execute(task.reference, scratch(task), name)
    return space[task.names[0]] if len(task.names) == 1 else tuple(space[each] for each in task.names)


def tiny(way):
    return WAYS[way](load("tiny-bert")[0])


# --- the learner's functions and the package's


@each_way
def test_static_bytes_are_the_counted_ones(way):
    model = tiny(way)
    counts, bill = measure.count(model), measure.static_bytes(model)
    mine = reference("cost.static")(counts.total, counts.trained)
    buffers = sum(b.nbytes for b in model.buffers())
    counters = 4 * sum(p.requires_grad for p in model.parameters())  # Adam's steps, one number a tensor
    assert mine == (bill.weights - buffers, bill.gradients, bill.optimizer - counters)
    assert sum(mine) == formulas.static_rule(counts.total, counts.trained, frozen=4, training=12)


def test_a_base_in_two_bytes_is_the_published_rule():
    assert sum(reference("cost.half")(7e9, 7e7)) == formulas.static_rule(7e9, 7e7) == 15.12e9  # Biderman et al.


@each_way
def test_saved_bytes_are_the_counted_ones(way):
    model = tiny(way).train()
    batch = full_batch(model, 3, 11, "cpu")
    assert reference("cost.saved")(model, batch) == measure.saved_bytes(model, batch)
    assert all(p.grad is None for p in model.parameters())


def test_the_check_counts_as_the_package_does():
    from peft_from_scratch.check.costs_runs import counted

    for model, batch in hosts(torch.Generator().manual_seed(0)):
        with measure.memory.saving(model) as found:
            model(**batch)
        assert counted(model, batch) == sum(found.values())


@pytest.mark.parametrize("way, kind", [("full", "full"), ("LoRA q,v", "LoRA"), ("head only", "head")])
def test_the_estimate_and_the_counter_differ_by_what_the_text_says(way, kind):
    """MiniLM's shape: scores and head come on top; LoRA's own products, and the first block's savings, too."""
    numbers, flops = reference("cost.flops")
    rows, length, rank = 16, 64, 8
    with torch.device("meta"), as_on("cpu"):
        plain = random_model(config_of("minilm"))
        batch = full_batch(plain, rows, length, "meta")
        n = numbers(plain.base_model.encoder)
        model = WAYS[way](plain)
    counted, sizes = predicted(model, batch), formulas.bert(model.config)
    estimate = flops(n, rows * length, kind)
    assert n == sizes.layers * sizes.linear
    right = {"full": lambda: formulas.full_flops(sizes, rows, length),
             "LoRA": lambda: formulas.lora_flops(sizes, rows, length, rank),
             "head": lambda: formulas.forward_flops(sizes, rows, length) + 2 * rows * sizes.head[-1]}  # fmt: skip
    assert counted.step == right[kind]()
    assert 1 < counted.step / estimate < 1.05


def test_forgetting_is_the_package_loss():
    models = pair(torch.Generator().manual_seed(0))
    batches = texts(torch.Generator().manual_seed(1), masked=True)
    before, after = (lm_loss(model, batches) for model in models)
    assert reference("cost.forgetting")(*models, batches) == pytest.approx(after - before, abs=1e-6)
    same = models[0], copy.deepcopy(models[0])
    assert reference("cost.forgetting")(*same, batches) == 0


def test_two_counts_of_one_text_foretell_a_third():
    """As the notebook does it: bytes of one text are a L + b L², exactly."""
    model = load("tiny-bert")[0]
    model = inject(model, {"all-linear": LoRA, "classifier": Replaced}).train()
    one = {size: measure.saved_bytes(model, full_batch(model, 1, size, "cpu")) for size in (32, 64, 128)}
    b = (one[64] / 64 - one[32] / 32) / 32
    a = one[32] / 32 - 32 * b
    assert a * 128 + b * 128**2 == pytest.approx(one[128], rel=0.01)
    longest = reference("cost.longest")(0, 1, a, b, one[128])
    assert 126 <= longest <= 130


def test_the_disk():
    assert reference("cost.disk")(20, 500, 2) == (10_000, 540)


OTHER_RIGHT_ANSWERS = {
    "numbers first": ("cost.static", "def static_bytes(total, trained):\n    each = 4 * trained\n"
                      "    return 4 * total, each, 2 * each"),
    "a list": ("cost.static", "def static_bytes(total, trained):\n"
               "    return [4.0 * total, 4.0 * trained, 8.0 * trained]"),
    "a string": ("cost.order", "order = 'cegad'"),
    "by parts": ("cost.flops", "def linear_numbers(model):\n    n = 0\n    for m in model.modules():\n"
                 "        if isinstance(m, nn.Linear):\n            n += m.in_features * m.out_features\n"
                 "    return n\n\n"
                 "def step_flops(n, tokens, kind):\n    parts = 1 + (kind != 'head') + (kind == 'full')\n"
                 "    return 2 * parts * n * tokens"),
    "sorted out at the end": (
        "cost.saved",
        "def saved_bytes(model, batch):\n    kept = []\n"
        "    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t.detach(), lambda t: t):\n"
        "        loss = model(**batch).loss\n"
        "    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}\n"
        "    for t in [*model.parameters(), *model.buffers()]:\n"
        "        sizes.pop(t.untyped_storage().data_ptr(), None)\n    return sum(sizes.values())"),
    "one line": ("cost.half", "def lora_bytes(base, adapter):\n    train = 4 * adapter\n"
                 "    return 2 * base + train, train, 2 * train"),
    "a list of two": ("cost.disk", "def disk(tasks, base, adapter):\n"
                      "    return [base * tasks, adapter * tasks + base]"),
    "by sums": ("cost.forgetting", "def forgetting(before, after, texts):\n    def loss(model):\n        model.eval()\n"
                "        kept = [(b['labels'][:, 1:] != -100).sum() for b in texts]\n"
                "        with torch.inference_mode():\n"
                "            each = [model(**b).loss for b in texts]\n"
                "        return (sum(n * x for n, x in zip(kept, each)) / sum(kept)).item()\n"
                "    return loss(after) - loss(before)"),
    "by halves": ("cost.longest", "def longest_length(static, batch, a, b, budget):\n    low, high = 0, 10**6\n"
                  "    while low < high:\n        mid = (low + high + 1) // 2\n"
                  "        if static + batch * (a * mid + b * mid**2) <= budget:\n            low = mid\n"
                  "        else:\n            high = mid - 1\n    return low"),
}  # fmt: skip


# --- the saved runs: what the text says of them


def test_the_memory_table_is_what_the_counter_says():
    kept = saved("01_memory")
    for way in ("full", "LoRA all"):
        with torch.device("meta"), as_on("cpu"):
            model = WAYS[way](random_model(config_of("minilm")))
            cost = predicted(model, full_batch(model, 4, 64, "meta"))
        assert widgets.memory_at(kept, "minilm", 4, 64)[way] == {part: getattr(cost, part) for part in kept["parts"]}


def test_the_memory_table_shows_the_trap():
    kept = saved("01_memory")
    share = {}
    for length in (16, 512):
        costs = widgets.memory_at(kept, "minilm", 16, length)
        share[length] = costs["LoRA all"]["peak"] / costs["full"]["peak"]
    assert share[16] < 0.6 and share[512] > 0.9  # it drops with short texts, and hardly with long ones
    large = widgets.memory_at(kept, "llama-7b", 1, 512)
    assert large["LoRA all"]["peak"] < 0.4 * large["full"]["peak"]  # and with a large model


def test_forgetting_bends_with_the_rate():
    kept = saved("01_forgetting")
    change = {rate: run["films"]["change"][0] for rate, run in kept["runs"].items()}
    assert change["1e-5"] < 0 < change["1e-3"] and change["1e-3"] > change["1e-4"] + 0.3
    assert all(run["speeches"]["change"][0] < 0 for rate, run in kept["runs"].items() if rate != "1e-3")
    assert kept["provenance"]["model_sha256"] and kept["answer"]


def test_the_museum_tells_its_faults_apart():
    runs = saved("01_museum")["runs"]
    right, thawed, cut = runs.values()
    assert thawed["flops"] > 1.4 * right["flops"] and thawed["static"] > 3.9 * right["static"]
    assert thawed["accuracy"] < right["accuracy"] - 5
    assert cut["saved"] < 0.01 * right["saved"] and cut["accuracy"] < right["accuracy"] - 5
    assert all(run["shipped"] for run in (thawed, cut))


# --- figures and widget


PARTS = ("weights", "gradients", "optimizer", "activations", "temporary", "peak")
COSTS = {"full": dict(zip(PARTS, (4e8, 4e8, 8e8, 1e8, 2e8, 15e8), strict=True)),
         "head only": dict(zip(PARTS, (4e8, 1e3, 2e3, 0, 1e8, 5e8), strict=True))}  # fmt: skip


def test_the_bars_say_what_they_show():
    fig, alt = plots.step_memory(COSTS)
    assert len(fig.axes[0].patches) == 2 * 5 and "in MiB" in alt
    assert (
        "full: weights 381.5, gradients 381.5, optimizer 762.9, activations 95.4, temporary 0.0; at most 1,430.5" in alt
    )
    large = {"full": {part: 100 * size for part, size in COSTS["full"].items()}}
    assert "in GiB" in plots.step_memory(large)[1]


def test_the_forgetting_figure_says_what_it_shows():
    runs = {"1e-5": {"speeches": {"change": (-0.1, -0.2, 0)}, "films": {"change": (-0.03, -0.04, -0.02)}},
            "1e-3": {"speeches": {"change": (0.3, 0.2, 0.4)}, "films": {"change": (1.5, 1.4, 1.6)}}}  # fmt: skip
    fig, alt = plots.forgetting(runs)
    assert len(fig.axes[0].lines) == 3 and "speeches -0.10, +0.30; films -0.03, +1.50" in alt


def test_the_sliders_draw_anew():
    kept = {"parts": list(COSTS["full"]), "tables": {"m": {"batches": [1, 2], "lengths": [8, 16], "bytes": {
        "full": [[[(1 + i + j) * 2**20] * 6 for j in (0, 10)] for i in (0, 1)]}}}}  # fmt: skip
    draw = lambda **at: plots.step_memory(widgets.memory_at(kept, "m", **at))  # noqa: E731
    box = widgets.sliding_all(draw, {"batch": [1, 2], "length": [8, 16]}, {"batch": 1, "length": 8})
    first = box.children[2].value
    box.children[0].value, box.children[1].value = 2, 16
    assert "weights 1.0" in first and "weights 12.0" in box.children[2].value


def test_without_a_kernel_the_sliders_are_a_picture(capsys):
    widgets.memory_explorer(saved("01_memory"), "minilm", 16, 64)
    assert "LoRA all: weights" in capsys.readouterr().out
    with pytest.raises(ValueError, match="batch cannot start at 5"):
        widgets.memory_explorer(saved("01_memory"), "minilm", 5, 64)


def test_the_smallest_writer_is_a_language_model():
    model = Writer(torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3]])
    want = nn.functional.cross_entropy(model(ids, ids).logits[0], ids[0, 1:])
    assert torch.allclose(model(ids, ids).loss, want)
