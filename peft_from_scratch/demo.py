"""Fine-tune one pretrained model four ways under one budget, and print what each gave and what it cost.

    full        every number          head only   a new classifier on frozen features
    BitFit      every bias            LoRA        rank 8 on query and value, and the head

Same data, same order, same number of steps, three seeds; each method at the rate that its own search chose on dev.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .compare.contestants import CONTESTANTS
from .compare.laboratory import Laboratory
from .compare.provenance import device_slug
from .compare.rates import half_decade
from .compare.store import Store
from .compare.sweep import Plan, sweep
from .compare.tasks import TASKS, Task
from .course.budget import budget
from .measure.intervals import as_scores, bootstrap, paired
from .plots import comparison, percent

# The best of a half-decade grid on dev (`demo --tune`); results/demo_tuning.jsonl holds the grid.
RATES = {"full": half_decade(-8), "head only": half_decade(-2), "BitFit": half_decade(-5), "LoRA": half_decade(-5)}
METHODS = [CONTESTANTS[name] for name in RATES]


def compare(lab: Laboratory, seeds: list[int]) -> list[dict]:
    """One row a method: scores with intervals, and costs, absolute (n_...) and relative to full fine-tuning."""
    rows = []
    for method in METHODS:
        runs = [lab.run(method, seed, RATES[method.name], "test") for seed in seeds]
        correct = as_scores([run.items for run in runs])
        row = {"method": method.name, "seeds": [run.metrics["accuracy"] for run in runs]}
        row |= {"accuracy": bootstrap(correct), "correct": correct}
        row |= {"log_loss": sum(run.metrics["log_loss"] for run in runs) / len(runs)}
        row |= {"seconds": sum(run.seconds for run in runs) / len(runs)}
        costs = lab.costs(method)
        rows.append(row | {f"n_{key}": costs[key] for key in ("numbers", "total", "memory", "flops", "file")})
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


def tune(lab: Laboratory) -> None:
    """Each method over the same half-decade grid on dev, extended until the best is not at an edge."""
    sweep(lab, [Plan(method, seeds=()) for method in METHODS])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method (default 3)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training texts (default 1)")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), help="folder for runs, table and figure")
    parser.add_argument("--tune", action="store_true", help="search each method's learning rate on dev instead")


def run(args: argparse.Namespace) -> int:
    # the rates were searched for this model; a GPU makes it faster, not larger
    task: Task = replace(TASKS["sentiment"].on(budget()), epochs=args.epochs)
    device = device_slug(task.device)
    lab = Laboratory(task.bench(), Store(args.out, device, "demo"), device, show=True, dev_too=False)
    print(f"{lab.setting}; {args.seeds} seeds; runs are kept in {lab.store.path}", flush=True)
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
