"""How long a training step takes beside Hugging Face peft's, interleaved: `python tests/speed.py [METHOD ...]`.

MiniLM's shape (or a Llama of its size) with random weights, 16 texts of 64 tokens, forward + backward + fused AdamW,
the table of speed_methods.py. Below 1: ours is faster. `minimum`: the fastest of ours over the fastest of theirs;
`median`: of the ratios of each round, in which both take a step; `low` to `high`: its 95 % interval, from a bootstrap
over the rounds. Seconds are the processor's, of one thread, so that what else the machine runs does not count.
Not a test: these are times. With PFS_WRITE_RESULTS=1 they are written to results/speed.json; ROUNDS (20) sets how many.
"""

import copy
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import torch
from filelock import FileLock
from speed_methods import HOSTS, METHODS, Pair, Side
from torch import Tensor, nn

RESULTS = Path(__file__).parent.parent / "results" / "speed.json"
ROUNDS = int(os.environ.get("ROUNDS", "20"))


def batch_for(host: str) -> dict[str, Tensor]:
    ids = torch.randint(5, 2048, (16, 64), generator=torch.Generator().manual_seed(1))
    ids[:, 32:34] = torch.tensor([1, 2])  # aLoRA's invocation
    labels = torch.arange(16) % 2 if host == "bert" else ids.clone()
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def stepper(side: Side, plain: nn.Module, batch: dict[str, Tensor]) -> tuple[Callable[[], None], int]:
    """A function that does one training step, and how many numbers it trains."""
    model = side.adapt(copy.deepcopy(plain)).train()
    optimizer, after = side.optimizer(model), side.after(model)

    def step():
        optimizer.zero_grad()
        side.loss(model, batch).backward()
        optimizer.step()
        after()

    return step, sum(p.numel() for p in model.parameters() if p.requires_grad)


def seconds(step: Callable[[], None]) -> float:
    start = time.process_time()  # not the clock: what others run on this machine does not count
    step()
    return time.process_time() - start


def compare(pair: Pair, rounds: int = ROUNDS) -> dict[str, float]:
    """Both by turns, first one and then the other first, so that what else the machine does falls on both."""
    torch.manual_seed(0)
    plain, batch = HOSTS[pair.host](), batch_for(pair.host)
    steps, trains = zip(*(stepper(side, plain, batch) for side in (pair.ours, pair.theirs)), strict=True)
    for step in steps * 2:
        step()
    times: tuple[list[float], list[float]] = [], []
    for turn in range(rounds):
        for i in (0, 1) if turn % 2 else (1, 0):
            times[i].append(seconds(steps[i]))
    ratios = [a / b for a, b in zip(*times, strict=True)]
    low, high = interval(ratios)
    fastest = [min(t) for t in times]
    found = dict(minimum=fastest[0] / fastest[1], median=statistics.median(ratios), low=low, high=high)
    sizes = dict(ms=round(1e3 * fastest[0]), ms_peft=round(1e3 * fastest[1]), trains=trains[0], trains_peft=trains[1])
    return {k: round(v, 3) for k, v in found.items()} | sizes | {"rounds": rounds}


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % of the medians of rounds drawn again, as many as there are, with replacement."""
    drawn = np.random.default_rng(0).choice(ratios, (draws, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def write(name: str, found: dict[str, float]) -> None:
    """Beside what is there, which stays: methods are timed again one by one."""
    with FileLock(f"{RESULTS}.lock"):
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))["ratio"] if RESULTS.exists() else {}
        where = dict(torch=torch.__version__, peft=peft.__version__, machine=platform.machine(), threads=1)
        beside = RESULTS.with_suffix(".part")
        text = json.dumps(where | {"ratio": dict(sorted((kept | {name: found}).items()))}, indent=1, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, RESULTS)


def main(names: list[str]) -> None:
    unknown = set(names) - METHODS.keys()
    if unknown:
        raise SystemExit(f"not in the table of speed_methods.py: {sorted(unknown)}; it has {sorted(METHODS)}")
    torch.set_num_threads(1)
    for name in names or METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's, about its own defaults
            found = compare(METHODS[name]())
        print(f"{name:24s}", found, flush=True)
        if os.environ.get("PFS_WRITE_RESULTS") == "1":
            write(name, found)


if __name__ == "__main__":
    main(sys.argv[1:])
