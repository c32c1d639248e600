"""Lesson 03's saved runs: `python tests/runs/lesson_03.py ladder|answers|museum` writes results/lessons/03_*.json.

Rates are the best of half decades on dev, with one seed. Finished runs are kept in outputs/lesson_03, so a call
that was stopped goes on. On two free CPU cores: ladder and answers a quarter of an hour each, museum two minutes.
"""

import copy
import json
import sys
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

import torch

from peft_from_scratch import LoRA, inject
from peft_from_scratch.compare.contestants import Contestant
from peft_from_scratch.compare.laboratory import Laboratory
from peft_from_scratch.compare.provenance import provenance
from peft_from_scratch.compare.rates import half_decade, known_rates, next_rates
from peft_from_scratch.compare.runs import Run
from peft_from_scratch.compare.store import Store
from peft_from_scratch.compare.sweep import Plan, sweep
from peft_from_scratch.compare.tasks import TASKS, Task
from peft_from_scratch.data import batches, encode, encode_answers, load_data
from peft_from_scratch.measure import count, step_flops
from peft_from_scratch.methods.selective.bitfit import bitfit
from peft_from_scratch.methods.selective.full import full
from peft_from_scratch.methods.selective.head import head_only
from peft_from_scratch.methods.selective.ln_tuning import ln_tuning
from peft_from_scratch.methods.selective.top_k import top_k
from peft_from_scratch.models import load
from peft_from_scratch.train import evaluate, fit, lm_loss

ROOT = Path(__file__).parents[2]
FOLDER, OUT = ROOT / "results" / "lessons", ROOT / "outputs" / "lesson_03"
ABOVE = r"bert\.pooler|classifier"  # what stands above MiniLM's blocks


def method(name: str, change, half_decades: int) -> Contestant:
    return Contestant(name, "selective", change, half_decade(half_decades))


def top(k: int) -> Contestant:
    return method(f"top {k}", partial(top_k, k=k, head=ABOVE), -7 if k < 4 else -8)


HEAD, BIASES, WHOLE = "head only", "BitFit", "full"  # these were run for the demo: results/demo_runs.jsonl
LADDER = [*map(top, (1, 2, 3)), method("LN-tuning", partial(ln_tuning, head="classifier"), -5), *map(top, (6, 4, 5))]
REVIEWS = replace(TASKS["sentiment"], name="ladder", dev=1000, test=2000)
SEARCHED = {"top 6": half_decade(-8)}  # that of full fine-tuning, from the demo's search
LIKE = {"top 2": "top 3", "top 4": "top 3", "top 5": "top 6"}  # these take the rate of a neighbour on the ladder
SMOL = [
    method("LoRA", lambda model: inject(model, {r".*\.(q|v)_proj": LoRA}), -5),
    method("LN-tuning", ln_tuning, -4),
    method("top 2", partial(top_k, k=2, head=r"model\.norm"), -7),
]


def laboratory(task: Task) -> Laboratory:
    return Laboratory(task.bench(), Store(OUT, "cpu", task.name), dev_too=False)


def keep(name: str, found: dict) -> None:
    """Beside, then into its place."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    beside = FOLDER / f"{name}.part"
    beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")


def ladder(seeds: int = 1, rungs: int = 4, search: int = 1) -> None:
    """Accuracy and price of the top k layers, of BitFit and of LN-tuning, on film reviews; kept after every run.

    With `search` 0 a method takes the best of the rates that have been tried already.
    """
    lab, best = laboratory(REVIEWS), dict(SEARCHED)
    whole = lab.costs(method(WHOLE, full, -8))["flops"]
    for seed in range(seeds):
        for one in LADDER[:rungs]:
            if search and one.name not in SEARCHED | LIKE:
                sweep(lab, [Plan(one, ())])
            best |= known_rates(lab.runs())
            lr = best[LIKE.get(one.name, one.name)]
            lab.run(one, seed, lr, "test")
            print(one.name, lr, [run.metrics for run in tested(lab, one.name)], flush=True)
            found = [row for each in LADDER[:rungs] if (row := of(lab, each, tested(lab, each.name), whole))]
            found += [of(lab, each, demo_runs(each.name), whole) for each in DEMO]
            found.sort(key=lambda row: (row["name"] in ("BitFit", "LN-tuning"), row["flops"]))
            keep("03_ladder", {"setting": lab.setting, "provenance": lab.made_with, "rows": found})


DEMO = [method(HEAD, head_only, -2), method(BIASES, partial(bitfit, head="classifier"), -5), method(WHOLE, full, -8)]


def of(lab: Laboratory, one: Contestant, runs: list[Run], whole: int) -> dict | None:
    """A row of the ladder: what a step costs, and each seed's accuracy."""
    if not runs:
        return None
    cost, right = lab.costs(one), [[int(bit) for bit in run.items[: REVIEWS.test]] for run in runs]
    scores = {"lr": runs[0].lr, "accuracy": [sum(bits) / len(bits) for bits in right]}
    tried = [run for run in lab.runs() if run.method == one.name and run.split == "dev"]
    scores["rates"] = {f"{run.lr:.0e}": round(run.metrics["log_loss"], 4) for run in tried}  # searched on dev
    return {"name": one.name, "trained": cost["numbers"], "flops": cost["flops"] / whole, **scores}


def tested(lab: Laboratory, name: str) -> list[Run]:
    return [run for run in lab.runs() if run.method == name and run.split == "test"]


def demo_runs(name: str) -> list[Run]:
    """The demo's runs, made in the same way and scored on more test reviews."""
    lines = (ROOT / "results" / "demo_runs.jsonl").read_text(encoding="utf-8").splitlines()
    found = [line for line in map(json.loads, lines) if line["method"] == name and line["split"] == "test"]
    return [Run("demo", name, "", line["seed"], line["lr"], "test", "done", line["setting"], items=line["correct"])
            for line in found]  # fmt: skip


def answers() -> None:
    """Loss of SmolLM2 on worked answers before and after, for each method at each rate; chosen by dev, read on test."""
    store, texts, price = Store(OUT, "cpu", "answers"), solutions(), prices()
    before, made_with = loss_before(store, texts[-1]), provenance("smollm2", "gsm8k", "cpu")
    while trial := next_trial(store):
        print(tried_out(store, *trial, *texts), flush=True)
        rows = best_on_dev(store, price)
        keep("03_answers", {"setting": SETTING, "provenance": made_with, "before": before, "rows": rows})


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)  # twice as fast as float32 here


def loss_before(store: Store, test: list) -> float:
    """Of the model as it came; computed once."""
    for line in store.lines():
        if "before" in line:
            return line["before"]
    with bf16():
        before = lm_loss(load("smollm2", "generate")[0], test)
    store.add({"name": "", "before": before})
    return before


def tried(store: Store, one: Contestant) -> dict[float, dict]:
    """rate -> its finished run."""
    return {line["lr"]: line for line in store.lines() if line["name"] == one.name}


def next_trial(store: Store) -> tuple[Contestant, float] | None:
    """The method that was tried least, and the missing rate nearest to its first guess; None once all are searched."""
    missing = {one: untried(one, tried(store, one)) for one in SMOL}
    open_ones = [one for one in SMOL if missing[one]]
    if not open_ones:
        return None
    one = min(open_ones, key=lambda one: len(tried(store, one)))
    return one, min(missing[one], key=lambda lr: abs(lr - one.lr))


def tried_out(store: Store, one: Contestant, lr: float, train: list, dev: list, test: list) -> dict:
    """Train at this rate; the loss on dev, and on test if none was lower on dev so far."""
    torch.manual_seed(0)
    model = one.adapt(load("smollm2", "generate")[0])
    fit(model, train, lr=lr, amp="bf16", label=f"{one.name} {lr:g}")
    with bf16():
        line = {"name": one.name, "lr": lr, "dev": lm_loss(model, dev), "trained": count(model).trained}
        if line["dev"] < min((other["dev"] for other in tried(store, one).values()), default=inf):
            line["test"] = lm_loss(model, test)
    store.add(line)
    return line


def best_on_dev(store: Store, price: dict[str, float]) -> list[dict]:
    """A row a method: its best run, what a step costs, and which rates were tried."""
    found = []
    for one in SMOL:
        if runs := tried(store, one):
            best = min(runs.values(), key=lambda line: line["dev"])
            edge = best["lr"] in (min(runs), max(runs))
            found.append({**best, "flops": price[one.name], "rates": sorted(runs), "at_edge": edge})
    return found


def untried(one: Contestant, lines: dict[float, dict]) -> list[float]:
    return next_rates(one.lr, {lr: found_loss(line) for lr, line in lines.items()})


SETTING = "smollm2, gsm8k, 32 answers of at most 128 tokens, 8 steps of 4, bf16, seed 0; dev 8, test 24; nats a token"


def found_loss(line: dict) -> Run:
    """As the search for a rate wants it."""
    return Run("answers", line["name"], "", 0, line["lr"], "dev", "done", SETTING, metrics={"log_loss": line["dev"]})


def solutions() -> list[list]:
    """Batches of 32 worked answers to train on, in the notebook's order; of 8 dev and 24 test answers."""
    data, tokenizer = load_data("gsm8k"), load("smollm2", "generate")[1]
    found = []
    for split, n, seed in (("train", 32, 0), ("dev", 8, None), ("test", 24, None)):
        rows = encode_answers(data[split].select(range(min(800, len(data[split])))), tokenizer, 256)
        short = [row for row in rows if len(row["input_ids"]) <= 128][:n]
        found.append(batches(short, 4, tokenizer.pad_token_id, shuffle_seed=seed))
    return found


def prices() -> dict[str, float]:
    """FLOPs of a step of 4 x 128 tokens, of full fine-tuning's; counted on shapes without numbers."""
    ids = torch.ones(4, 128, dtype=torch.long, device="meta")
    batch, plain = {"input_ids": ids, "labels": ids}, load("smollm2", "generate", attn_implementation="eager")[0]
    whole = step_flops(full(copy.deepcopy(plain)).to("meta"), batch)
    return {one.name: step_flops(one.adapt(copy.deepcopy(plain)).to("meta"), batch) / whole for one in SMOL}


def exam(train: list, test: int = 1000, length: int = 64) -> tuple[list, list, int]:
    """These training rows and the first test rows, encoded, and the padding's id."""
    data, tokenizer = load_data("reviews"), load("minilm")[1]
    rows = encode(data["train"], tokenizer, length)
    return [rows[i] for i in train], encode(data["test"], tokenizer, length)[:test], tokenizer.pad_token_id


def chosen_names(model, *modules: str):
    """Train what lies in these modules, in place."""
    for name, p in model.named_parameters():
        p.requires_grad_(name.startswith(tuple(f"{module}." for module in modules)))
    return model


STACK, TOP = "bert.encoder.layer", ("bert.pooler", "classifier")
FAULTS = {  # what trains, and where the fault was shipped
    "as it should be": ((f"{STACK}.4", f"{STACK}.5", *TOP), ""),
    "counted from the bottom": ((f"{STACK}.0", f"{STACK}.1", *TOP), "hamedrab/FOREC #6"),
    "the new head frozen": ((f"{STACK}.4", f"{STACK}.5", "bert.pooler"),
                            "thuiar/Cross-Modal-BERT #3, harvitronix/five-video-classification-methods #26"),
}  # fmt: skip


def museum() -> None:
    """Each fault of "the top two layers" trained once: its losses and its accuracy."""
    train, others, pad = exam(list(range(640)), test=600)
    path = FOLDER / "03_museum.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    for name, (modules, where) in FAULTS.items():
        if name in runs:
            continue
        model = chosen_names(load("minilm")[0], *modules)
        loss = fit(model, batches(train, 16, pad, shuffle_seed=0), lr=half_decade(-7), label=name).loss
        means = [round(sum(loss[i : i + 5]) / len(loss[i : i + 5]), 4) for i in range(0, len(loss), 5)]
        accuracy = 100 * evaluate(model, batches(others, 64, pad)).accuracy
        step = [min(i + 5, len(loss)) for i in range(0, len(loss), 5)]
        runs[name] = {"step": step, "loss": means, "accuracy": round(accuracy, 2), "shipped": where}
        print(name, runs[name], flush=True)
        setting = "minilm, 640 reviews, 40 steps of 16 x 64, seed 0, rate 3.2e-4, 600 test reviews; means of 5 steps"
        keep("03_museum", {"setting": setting, "provenance": provenance("minilm", "reviews", "cpu"), "runs": runs})


if __name__ == "__main__":
    commands = {"ladder": ladder, "answers": answers, "museum": museum}
    commands[sys.argv[1]](*map(int, sys.argv[2:]))
