"""Lesson 07's saved runs, results/lessons/07_*.json: `python tests/runs/lesson_07.py PART`.

sentiment FILE   the compact form of a sweep's lines (results/compare/cpu/sentiment.jsonl), however many are there
league           twelve seeds of one LoRA on 1,000 reviews; about ten minutes
low              full and LoRA on 64 and on 512 reviews; about fifteen minutes
forgetting       full and LoRA on State of the Union messages, four rates and two seeds each; about twenty minutes
promises         latency at batch 1, time to switch and to load, costs of a step; a minute
museum           three runs of the bug museum; a minute

`--most N` ends after N new runs; the same command goes on from there (runs wait in a temporary folder until all are
made). Times are of one busy core.
"""

import argparse
import json
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lesson_01 import HELD_OUT, ROWS, block_losses, texts

from peft_from_scratch import LoRA, Replaced, adapter_state, full, inject, load_adapter, merge
from peft_from_scratch.compare.classes import Classes
from peft_from_scratch.compare.contestants import CONTESTANTS
from peft_from_scratch.compare.costs import exact_costs
from peft_from_scratch.compare.extract import extract
from peft_from_scratch.compare.laboratory import Laboratory
from peft_from_scratch.compare.provenance import provenance
from peft_from_scratch.compare.report.read import Table, add_line, made_with, read_lines
from peft_from_scratch.compare.store import Store
from peft_from_scratch.compare.sweep import Plan
from peft_from_scratch.compare.tasks import TASKS
from peft_from_scratch.models import load
from peft_from_scratch.train import fit

FOLDER = Path(__file__).parents[2] / "results" / "lessons"
WAITING = Path(tempfile.gettempdir()) / "pfs_lesson_07"
QV = r".*\.(query|value)"


class Enough(Exception):
    """As many runs as were asked for are made."""


def keep(name, setting, made, found):
    found = {"setting": setting, "provenance": made, **found}
    FOLDER.mkdir(parents=True, exist_ok=True)
    beside = FOLDER / f"{name}.part"
    beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")
    print(name, "kept", flush=True)


class Counted(Laboratory):
    """A laboratory that ends after `most` new runs."""

    def __init__(self, task, most):
        super().__init__(Classes(task), Store(WAITING, "cpu", task.name), dev_too=False)
        self.most = most

    def _attempt(self, contestant, seed, lr, split):
        if self.most == 0:
            raise Enough
        self.most -= 1
        run = super()._attempt(contestant, seed, lr, split)
        print(run.task, run.method, seed, lr, split, run.metrics, f"{run.seconds:.0f} s", flush=True)
        return run


def all_of(lab, contestants, seeds):
    """Search and test, as the sweep does; the finished runs."""
    for plan in [Plan(contestant, seeds) for contestant in contestants]:
        while wanted := plan.wants(lab.runs()):
            lab.run(plan.contestant, *wanted[0])
    return lab.runs()


# --- the great table: what a sweep left


def sentiment(file, most):
    table = Table("cpu", "sentiment", TASKS["sentiment"].setting)
    for line in read_lines(Path(file)):
        if line.get("setting") == table.setting:
            add_line(table, line)
    runs = [run for run in table.runs if run.steps]
    seeds = {m: {r.seed for r in runs if r.method == m and r.split == "test"} for m in {r.method for r in runs}}
    runs = [run for run in runs if len(seeds[run.method]) >= 5]  # a method counts once all its seeds are there
    bench = Classes(TASKS["sentiment"])
    costs = {m: table.costs.get(m) or exact_costs(CONTESTANTS[m], bench) for m in dict.fromkeys(r.method for r in runs)}
    made = {key: values[0] if len(values := sorted(count)) == 1 else values
            for key, count in made_with([replace(table, runs=runs)]).items()}  # fmt: skip
    keep("07_sentiment", table.setting, made, extract(runs, costs) | {"labels": table.classes})


# --- the null league: one method, twelve seeds

SHOWN = ("LoRA+", "VeRA", "DoRA", "Houlsby", "PiSSA", "BitFit", "rsLoRA", "OFT", "AdaLoRA", "(IA)³", "LoRA", "HRA")


def league(most):
    task = replace(TASKS["sentiment"], name="league", train=1000, test=3000)
    lab, lora = Counted(task, most), CONTESTANTS["LoRA"]
    runs = [replace(lab.run(lora, seed, lora.lr, "test"), method=f"seed {seed}", note="") for seed in range(12)]
    found = extract(runs)
    for row, shown in zip(found["methods"], SHOWN, strict=True):
        row["shown"] = shown
    setting = f"{task.setting}; LoRA {lora.note}, rate {lora.lr:g}; `shown` is the name that the lesson's league gives"
    keep("07_null_league", setting, lab.made_with, found)


# --- few examples


def low(most):
    tasks = [replace(TASKS["low-64"], name=f"low-{n}", train=n, epochs=epochs, dev=500, test=1000)
             for n, epochs in ((64, 10), (512, 2))]  # fmt: skip
    for task in tasks:
        lab = Counted(task, most)
        runs = all_of(lab, [CONTESTANTS["full"], CONTESTANTS["LoRA"]], range(5 if task.train == 64 else 3))
        most = lab.most
        keep(f"07_low_{task.train}", f"{task.setting}; the seed draws the examples", lab.made_with, extract(runs))


# --- forgetting: quality on the task against the loss on other texts

RATES = {"full": (1e-5, 1e-4, 3e-5, 3e-4), "LoRA": (3e-4, 3e-3, 1e-3, 1e-2)}
STEPS = 20
CHANGE = {"full": full, "LoRA": CONTESTANTS["LoRA all-linear"].adapt}


def forgetting(most):
    path = WAITING / "forgetting.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    there = {(run["method"], run["lr"], run["seed"]) for run in runs}
    wanted = [(m, lr, seed) for seed in (0, 1) for m, rates in RATES.items() for lr in rates]
    wanted.sort(key=lambda each: (each[2], (1, 0, 2, 3)[RATES[each[0]].index(each[1])]))  # the middle rates first
    model, tokenizer = load("smollm2", "generate")
    lessons, speeches, films = texts(tokenizer)
    lessons = lessons[:STEPS]
    if not runs:
        runs = [losses(model, speeches, films) | {"method": "before", "lr": 0.0, "seed": 0}]
        path.write_text(json.dumps(runs[0]) + "\n")
    for method, lr, seed in [each for each in wanted if each not in there][: None if most < 0 else most]:
        torch.manual_seed(seed)
        model = CHANGE[method](load("smollm2", "generate")[0])
        order = torch.randperm(len(lessons), generator=torch.Generator().manual_seed(seed)).tolist()
        loss = fit(model, [lessons[i] for i in order], lr=lr, amp="bf16", seed=seed, progress=False).loss
        run = losses(model, speeches, films) | {"method": method, "lr": lr, "seed": seed}
        runs.append(run | {"loss": [round(x, 4) for x in loss]})
        with path.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(method, lr, seed, *(sum(run[k]) / HELD_OUT for k in ("speeches", "films")), flush=True)
    setting = (
        f"smollm2, State of the Union, {STEPS} steps of {ROWS} x 128, bf16; LoRA r = 8, α = 16 on all linear "
        f"layers; losses of {HELD_OUT} blocks of other messages and of film reviews (imdb), nats a token"
    )
    keep("07_forgetting", setting, provenance("smollm2", "sotu", "cpu"), {"runs": runs})


def losses(model, speeches, films):
    model.eval()
    return {name: [round(x, 4) for x in block_losses(model, blocks).tolist()]
            for name, blocks in (("speeches", speeches), ("films", films))}  # fmt: skip


# --- what the promises are about


def cpu_ratio(a, b, rounds):
    """CPU seconds of a over those of b, by turns: the ratio of medians, with 95 % over the rounds. On one thread that
    is the latency, without the time in which other programs have the core."""
    times = torch.tensor([[cpu_seconds(a), cpu_seconds(b)] for _ in range(rounds + 3)])[3:].double()
    draws = torch.stack([times[torch.randint(rounds, (rounds,))].median(0).values for _ in range(1000)])
    low, high = (draws[:, 0] / draws[:, 1]).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    medians = times.median(0).values
    return {"median": (medians[0] / medians[1]).item(), "low": low, "high": high, "seconds": medians.tolist()}


def cpu_seconds(call):
    begin = time.process_time()
    call()
    return time.process_time() - begin


def promises(most):
    bench, rounds, rows = Classes(TASKS["sentiment"]), 400, {}
    torch.set_num_threads(1)
    before = load("minilm")[0].eval()
    one = {k: v[:1] for k, v in bench.order(0)(0)[0].items() if k not in ("index", "labels")}
    for name in ("LoRA", "Pfeiffer"):
        model = CONTESTANTS[name].adapt(load("minilm")[0]).eval()
        versions = {"unmerged": model}
        with suppress(ValueError, TypeError, NotImplementedError):
            versions["merged"] = merge(model).eval()
        with torch.inference_mode():
            rows[name] = {kind: cpu_ratio(lambda m=m: m(**one), lambda: before(**one), rounds)
                          for kind, m in versions.items()}  # fmt: skip
        print(name, rows[name], flush=True)
    model = CONTESTANTS["LoRA"].adapt(load("minilm")[0])
    state = {k: v.clone() for k, v in adapter_state(model).items()}
    switch = cpu_ratio(lambda: load_adapter(model, state), lambda: load("minilm"), 30)
    costs = {name: exact_costs(CONTESTANTS[name], bench) for name in ("full", "LoRA")}
    setting = (
        f"minilm; latency: one review at batch 1, over the plain model's, {rounds} rounds by turns, CPU time of one "
        "thread; switch: another adapter's tensors put in, over loading the model, 30 rounds; low and high: 95 % over "
        "the rounds; costs of a step of 16 x 64"
    )
    keep("07_promises", setting, provenance("minilm", "reviews", "cpu"),
         {"latency": rows, "switch": switch, "costs": costs})  # fmt: skip


# --- museum: faults of method that a training curve shows

LORA = {QV: partial(LoRA, rank=8, alpha=16), "classifier": Replaced}
FAULTS = {
    "as it should be": (lambda m: inject(m, LORA), 3.16228e-3, ""),
    "the rate at the edge of the grid": (
        lambda m: inject(m, LORA),
        3.16228e-4,
        "huggingface/peft #3552 and #3301 (mended there)",
    ),
    "full fine-tuning at LoRA's rate": (full, 3.16228e-3, "Tencent-Hunyuan/HunyuanVideo-I2V #68"),
}


def museum(most):
    bench = Classes(replace(TASKS["sentiment"], train=1000, test=1000))
    runs = {}
    for name, (change, lr, where) in FAULTS.items():
        torch.manual_seed(0)
        model = change(load("minilm")[0])
        loss = fit(model, bench.order(0), lr=lr, progress=False).loss
        means = [round(sum(loss[i : i + 5]) / len(loss[i : i + 5]), 4) for i in range(0, len(loss), 5)]
        step = [min(i + 5, len(loss)) for i in range(0, len(loss), 5)]
        score = 100 * bench.score(model, "test").metrics["accuracy"]
        runs[name] = {"step": step, "loss": means, "accuracy": score, "lr": lr, "shipped": where}
        print(name, score, flush=True)
    setting = ("minilm, 1,000 reviews, 63 steps of 16 x 64, seed 0, 1,000 test reviews; LoRA r = 8, α = 16 on query "
               "and value; losses are means of 5 steps")  # fmt: skip
    keep("07_museum", setting, provenance("minilm", "reviews", "cpu"), {"runs": runs})


if __name__ == "__main__":
    parts = {p.__name__: p for p in (sentiment, league, low, forgetting, promises, museum)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=parts)
    parser.add_argument("file", nargs="?", default="results/compare/cpu/sentiment.jsonl")
    parser.add_argument("--most", type=int, default=-1, help="end after so many new runs")
    args, begin = parser.parse_args(), time.monotonic()
    try:
        parts[args.part](*([args.file] if args.part == "sentiment" else []), most=args.most)
    except Enough:
        print(f"{args.part}: more runs to come, call it again", flush=True)
    print(f"{time.monotonic() - begin:.0f} s", flush=True)
