"""Fine-tune one pretrained model four ways under one budget, and print what each gave and what it cost.

    full        every number          head only   a new classifier on frozen features
    BitFit      every bias            LoRA        rank 8 on query and value, and the head

Same data, same order, same number of steps, three seeds; each method at the rate that its own search chose on dev.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from .adapt import inject
from .adapter import Replaced
from .compare.laboratory import Laboratory, Method
from .course.budget import budget
from .measure.intervals import bootstrap, paired
from .methods.lowrank.lora import LoRA
from .methods.selective.bitfit import bitfit
from .methods.selective.full import full
from .methods.selective.head import head_only
from .plots import comparison, percent

HEAD = "classifier|score"


def lora(model: nn.Module) -> nn.Module:
    """Rank 8 around query and value, as in the paper; the head trains in full."""
    return inject(model, {r".*\.(query|value)": LoRA, HEAD: Replaced})


METHODS: dict[str, Method] = {
    "full": full,
    "head only": lambda model: head_only(model, HEAD),
    "BitFit": lambda model: bitfit(model, HEAD),
    "LoRA": lora,
}
# The best of a half-decade grid on dev (`demo --tune`); results/demo_tuning.jsonl holds the grid.
RATES = {"full": 1e-4, "head only": 1e-1, "BitFit": 10**-2.5, "LoRA": 10**-2.5}
GRID = [10 ** (k / 2) for k in range(-10, 3)]  # 1e-5, 3.2e-5, 1e-4, ... 10


def compare(lab: Laboratory, seeds: list[int]) -> list[dict]:
    """One row a method: scores with intervals, and costs, absolute (n_...) and relative to full fine-tuning."""
    rows = []
    for method in METHODS:
        runs = [lab.run(method, seed, RATES[method], "test") for seed in seeds]
        correct = torch.tensor([[c == "1" for c in run.correct] for run in runs])
        row = {"method": method, "seeds": [run.accuracy for run in runs], "accuracy": bootstrap(correct)}
        row |= {key: sum(getattr(run, key) for run in runs) / len(runs) for key in ("log_loss", "seconds")}
        rows.append(row | {"correct": correct} | {f"n_{key}": value for key, value in lab.costs(method).items()})
    first = rows[0]
    for row in rows:
        row["difference"] = paired(row["correct"], first["correct"])
        row["trained"] = row["n_numbers"] / row["n_total"]
        row |= {key: row[f"n_{key}"] / first[f"n_{key}"] for key in ("flops", "memory", "file")}
    return rows


COLUMNS: dict[str, Callable[[dict], str]] = {
    "method": lambda row: row["method"],
    "accuracy": lambda row: "{:.3f} [{:.3f}, {:.3f}]".format(*row["accuracy"]),
    "minus full": lambda row: "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["difference"]) if row["difference"].high else "",
    "log-loss": lambda row: f"{row['log_loss']:.3f}",
    "trained": lambda row: f"{row['n_numbers']:,}",
    "share": lambda row: percent(row["trained"]),
    "compute": lambda row: f"{row['flops']:.3f}",
    "memory": lambda row: f"{row['n_memory'] / 2**20:.0f} MiB",
    "seconds": lambda row: f"{row['seconds']:.0f}",
    "file": lambda row: f"{row['n_file'] / 2**20:.2f} MiB",
}


def table(rows: list[dict]) -> str:
    """The rows as text: [95 % interval over seeds and test items]; compute and memory are those of a 16 x 64 step."""
    lines = [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in rows)]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, wide)) for line in lines)


def tune(lab: Laboratory, seed: int = 0) -> None:
    """Each method over the same half-decade grid on dev, extended until the best is not at an edge."""
    for method in METHODS:
        tried = {lr: lab.run(method, seed, lr, "dev") for lr in GRID[2:5]}
        while (best := min(tried, key=lambda lr: tried[lr].log_loss)) in (min(tried), max(tried)):
            place = GRID.index(best) + (1 if best == max(tried) else -1)
            if not 0 <= place < len(GRID):
                break
            tried[GRID[place]] = lab.run(method, seed, GRID[place], "dev")
        for lr in sorted(tried):
            found, mark = tried[lr], " <- best" if lr == best else ""
            print(f"{method:10s} {lr:.1e}  dev accuracy {found.accuracy:.3f}  log-loss {found.log_loss:.3f}{mark}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training texts (default 1)")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder for runs, table and figure")
    parser.add_argument("--tune", action="store_true", help="search each method's learning rate on dev instead")


def run(args: argparse.Namespace) -> int:
    plan = budget()
    if plan.mode != "ci":  # the rates were searched for this model; a GPU makes it faster, not larger
        plan = replace(plan, model="minilm", data="reviews", train_size=2000, batch_size=16, max_length=64)
    lab = Laboratory(METHODS, plan, args.epochs, args.out)
    print(f"{lab.setting}; {args.seeds} seeds; runs are kept in {lab.kept}", flush=True)
    if args.tune:
        tune(lab)
        return 0
    rows = compare(lab, list(range(args.seeds)))
    fig, alt = comparison(rows)
    fig.savefig(args.out / "figure.png", dpi=150)
    text = table(rows)
    (args.out / "table.txt").write_text(f"{text}\n\n{alt}\n", encoding="utf-8")
    print(f"\n{text}\n\n{alt}\nfigure: {args.out / 'figure.png'}")
    return 0
