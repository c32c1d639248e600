"""Bytes of a training step and what is learned, beside Hugging Face peft's: `python tests/against_peft.py [NAME ...]`.

Bytes, for every method of speed_methods.py, on its hosts and batch: what is saved for the backward pass, and the peak
that a whole step takes from the allocator beyond what was there. Both are the same on every run.
Quality, for the methods of TRAINED: MiniLM on 2,000 film reviews, tested on 2,000 others. Our adapted model is saved as
a peft checkpoint, from which peft starts, so that both begin with the same numbers; then both train by the same loop,
in the same order.
STEPS=10 trains less, to try it.

Not a test: minutes for the bytes, a minute for each trained pair. With PFS_WRITE_RESULTS=1 each line is written to
results/against_peft.json as it is found, and what is there is not measured again.
"""

import copy
import json
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import peft
import torch
from filelock import FileLock
from speed import batch_for, stepper
from speed_methods import HOSTS, METHODS, Side
from torch import nn

from peft_from_scratch.compare.contestants import CONTESTANTS
from peft_from_scratch.compare.tasks import TASKS, Task
from peft_from_scratch.course.budget import budget
from peft_from_scratch.data import batches
from peft_from_scratch.interop import save_peft
from peft_from_scratch.measure import saved_bytes
from peft_from_scratch.measure.memory import allocated_peak
from peft_from_scratch.train import evaluate, fit

RESULTS = Path(__file__).parent.parent / "results" / "against_peft.json"
TRAINED = [f"{name}, trained" for name in ("LoRA", "DoRA", "LoHa", "OFT", "(IA)³", "VeRA", "FourierFT")]


class WithLoss(nn.Module):
    """A model whose loss is the one that the method trains with."""

    def __init__(self, side: Side, plain: nn.Module):
        super().__init__()
        self.side, self.model = side, side.adapt(copy.deepcopy(plain))

    def forward(self, **batch) -> SimpleNamespace:
        return SimpleNamespace(loss=self.side.loss(self.model, batch))


def bytes_of(name: str) -> dict[str, float]:
    pair = METHODS[name]()
    torch.manual_seed(0)
    plain, batch = HOSTS[pair.host](), batch_for(pair.host)
    found = {}
    for who, side in (("", pair.ours), ("_peft", pair.theirs)):
        try:
            found[f"saved_bytes{who}"] = saved_bytes(WithLoss(side, plain), batch)
        except NotImplementedError as error:  # a sparse tensor has no storage to count
            print(f"{name}: no saved bytes of {'peft' if who else 'ours'}: {error}")
        step, _ = stepper(side, plain, batch)
        step()  # makes the optimiser's state
        found[f"peak_bytes{who}"] = allocated_peak(step, torch.device("cpu"))
    both = [k for k in ("saved", "peak") if {f"{k}_bytes", f"{k}_bytes_peft"} <= found.keys()]
    return {k: round(found[f"{k}_bytes"] / found[f"{k}_bytes_peft"], 4) for k in both} | found


def quality_of(name: str, task: Task, steps: int | None = None) -> dict[str, float | str]:
    """Both trained from one start; how many test items they answer alike, and how far a training loss was off."""
    method, bench = name.removesuffix(", trained"), task.bench()
    # peft's LoHa draws a random number in each forward pass, for its module dropout; with it all later masks differ
    off = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0) if method == "LoHa" else {}
    torch.manual_seed(0)
    ours = CONTESTANTS[method].adapt(bench.model(0, **off))
    with tempfile.TemporaryDirectory() as folder:
        save_peft(ours, folder)
        theirs = peft.PeftModel.from_pretrained(bench.model(0, **off), folder, is_trainable=True)
    order, lr = bench.order(0)(0)[:steps], CONTESTANTS[method].lr
    test = batches(bench.sets["test"], 64, bench.pad)
    losses, correct = [], []
    for model in (ours, theirs):
        losses.append(torch.tensor(fit(model, order, lr=lr, progress=False).loss))
        correct.append(evaluate(model, test).correct)
    accuracy, accuracy_peft = (c.double().mean().item() for c in correct)
    agree = (correct[0] == correct[1]).double().mean().item()
    off = (losses[0] - losses[1]).abs().max().item()
    found = dict(accuracy=accuracy, accuracy_peft=accuracy_peft, agree=agree, loss=off, rate=lr)
    remark = {"remark": "without dropout: peft draws a random number more, which shifts the masks"} if off else {}
    return {k: round(v, 6) for k, v in found.items()} | {"steps": len(order)} | remark


def read() -> dict:
    empty = {"bytes": {}, "quality": {}}
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else empty


def keep(part: str, name: str, found: dict) -> None:
    with FileLock(f"{RESULTS}.lock"):
        whole = read() | {"peft": peft.__version__, "torch": torch.__version__}
        whole[part] = dict(sorted((whole[part] | {name: found}).items()))
        beside = RESULTS.with_suffix(".part")
        beside.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(beside, RESULTS)


def main(names: list[str]) -> None:
    if unknown := set(names) - METHODS.keys() - set(TRAINED):
        raise SystemExit(f"unknown: {sorted(unknown)}; there are {sorted(METHODS)} and {TRAINED}")
    write, steps = os.environ.get("PFS_WRITE_RESULTS") == "1", int(os.environ.get("STEPS", "0")) or None
    if write and steps:
        raise SystemExit("STEPS is for trying it: unset it to write results")
    torch.set_num_threads(1)
    for name in names or [*METHODS, *TRAINED]:
        part, short = ("quality", name.removesuffix(", trained")) if name in TRAINED else ("bytes", name)
        if write and not names and short in read()[part]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's, about its own defaults
            task = replace(TASKS["sentiment"].on(budget()), test=2000)
            found = quality_of(name, task, steps) if part == "quality" else bytes_of(name)
        print(f"{name:24s}", found, flush=True)
        if write:
            keep(part, short, found)


if __name__ == "__main__":
    main(sys.argv[1:])
