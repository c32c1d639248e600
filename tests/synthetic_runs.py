"""Made-up lines of a results folder, for tests of what reads them. Their numbers mean nothing."""

import json
from dataclasses import asdict, replace
from math import log10

import torch

from peft_from_scratch.compare.rates import half_decade, place
from peft_from_scratch.compare.runs import Run
from peft_from_scratch.compare.tasks import TASKS

PROVENANCE = {"code": "0.0 commit abc", "torch": "2.13.0", "device": "cpu"}
METHODS = {  # family, accuracy, numbers trained, best half decade, share of FLOPs, share of bytes
    "full": ("selective", 0.80, 1_000_000, -8, 1.0, 1.0),
    "LoRA": ("low rank", 0.795, 4_000, -5, 0.67, 0.44),
    "DoRA": ("low rank", 0.797, 4_300, -5, 0.67, 0.5),
    "BitFit": ("selective", 0.72, 1_200, -5, 0.676, 0.43),
    "head only": ("selective", 0.63, 50, -2, 0.333, 0.15),
    "Pfeiffer": ("adapters", 0.79, 60_000, -6, 0.69, 0.5),
    "prompt": ("prompts", 0.70, 700, -1, 0.9, 0.6),
}
OTHER = {"full": 0.30, "LoRA": 0.20, "LN-tuning": 0.10}


def bits(seed, accuracy, n):
    """Right or wrong: the same items are hard for every method."""
    hard = torch.rand(n, generator=torch.Generator().manual_seed(0))
    noise = 0.02 * torch.randn(n, generator=torch.Generator().manual_seed(seed + 1))
    return "".join(str(int(c)) for c in (hard + noise < accuracy))


def run(task, method, family, seed, lr, split, loss, accuracy=None, items="", **more):
    metrics = {"log_loss": loss} | ({} if accuracy is None else {"accuracy": accuracy}) | more
    if split == "test":
        metrics |= {f"dev_{k}": v for k, v in metrics.items()}
    told = Run(task, method, family, seed, lr, split, "done", TASKS[task].setting, metrics=metrics, items=items)
    return replace(told, seconds=30.0 if method == "full" else 20.0, steps=100, provenance=PROVENANCE)


def search(task, method, family, best, loss, seed=0, accuracy=None, **more):
    """Dev runs at the best rate and its neighbours; the highest diverged."""
    for k in (-1, 0, 1):
        yield run(task, method, family, seed, half_decade(best + k), "dev", loss + 0.05 * abs(k), accuracy, **more)
    failed = run(task, method, family, seed, half_decade(best + 2), "dev", 0)
    yield replace(failed, status="nan", note="the loss is nan at step 9", metrics={}, steps=0)


def classification(task="sentiment", n=200, seeds=3, lower=0.0):
    setting = TASKS[task].setting
    for method, (family, accuracy, numbers, best, flops, memory) in METHODS.items():
        yield from search(task, method, family, best, 1.2 - accuracy, accuracy=accuracy)
        for seed in range(seeds):
            items = bits(seed, accuracy - lower, n)
            yield run(
                task, method, family, seed, half_decade(best), "test", 1.2 - accuracy, items.count("1") / n, items
            )
        costs = {"numbers": numbers, "total": 1_000_000, "flops": 1e10 * flops, "memory": 2**29 * memory}
        costs |= {"static": 2**28 * memory, "saved": 2**28 * memory, "file": 4 * numbers}
        mark = {"task": task, "method": method, "setting": setting, "note": ""}
        yield mark | {"kind": "cost"} | costs
        if method != "Pfeiffer":  # not timed yet
            yield mark | {"kind": "time", "ratio": flops + 0.1, "low": flops + 0.08, "high": flops + 0.11}
    still = run(task, "majority class", "no training", 0, 0.0, "test", 0.69, 0.5, bits(0, 0.5, n))
    yield replace(still, steps=0, note="the class that training has most of")
    yield replace(run(task, "prefix", "prompts", 0, 1e-2, "dev", 0), status="cannot", note="no cache <here>", steps=0)


def language(task="style", n=40, seeds=3):
    still = run(task, "zero-shot", "no training", 0, 0.0, "test", 4.0, items=[4.0] * n, other_loss=3.5)
    yield replace(still, steps=0)
    for i, (method, rise) in enumerate(OTHER.items()):
        for seed in range(seeds):
            best = -8 if method == "full" else -5
            for dev in search(task, method, "low rank", best, 3.0 + 0.1 * i, seed) if seed == 0 else ():
                other = 3.5 + rise * (place(dev.lr) - best + 2) / 2
                yield replace(dev, metrics=dev.metrics and dev.metrics | {"other_loss": other})
            items = [round(3.0 + 0.1 * i + 0.01 * seed + 0.02 * j, 4) for j in range(n)]
            loss = sum(items) / n
            yield run(
                task, method, "low rank", seed, half_decade(best), "test", loss, items=items, other_loss=3.5 + rise
            )


def ranks(task="low-1000", best=lambda rank: -4, seeds=3, name="LoRA r{}"):
    for rank in (1, 4, 16, 64):
        for seed in range(seeds):
            yield from search(task, name.format(rank), "low rank", best(rank), 0.5, seed)


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line if isinstance(line, dict) else asdict(line)) + "\n")


def everything(folder, device="cpu"):
    """A folder with every kind of table."""
    write(folder / device / "sentiment.jsonl", classification())
    for n in (16, 256):
        write(folder / device / f"low-{n}.jsonl", classification(f"low-{n}", lower=0.3 / log10(n)))
    write(folder / device / "style.jsonl", language())
    write(folder / device / "claims-low-1000.jsonl", ranks())
    claims = [("It is so", "certain", "held", "1 of 1"), ("Perhaps", "low", "not decided", "no runs")]
    lines = [dict(zip(("text", "expected", "verdict", "figures"), claim, strict=True)) for claim in claims]
    (folder / device / "claims.json").write_text(json.dumps({"code": "0.0", "claims": lines}))
    ratios = {"LoRA": dict(median=0.95, low=0.9, high=1.0), "DoRA": dict(median=1.01, low=0.99, high=1.02)}
    made_with = dict(peft="9.9", torch="2.13.0", machine="x86_64", threads=1)
    (folder / "speed.json").write_text(json.dumps(made_with | {"ratio": ratios}))
    quality = {"LoRA": dict(accuracy=0.79, accuracy_peft=0.79, agree=1.0, loss=0.0, steps=125)}
    bytes_ = {"LoRA": dict(saved=1.0, peak=0.99), "DoRA": dict(saved=0.98, peak=1.0)}
    (folder / "against_peft.json").write_text(json.dumps({"bytes": bytes_, "quality": quality}))
