"""Finished runs in little room, for a lesson: results/lessons/07_*.json keeps right and wrong as bits.

`extract` makes it from the lines of a sweep, however many of its methods are finished; `kept_runs` reads it.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..course.saved import saved
from .rates import SEARCH_SEED
from .runs import Run
from .statistics import tested

COSTS = ("numbers", "total", "flops", "memory", "file")


@dataclass(frozen=True)
class Kept:
    """One method. `correct`: for each seed and each test item, whether it was right; `tried`: each rate of the search
    with its accuracy on dev; `lr`: the rate that was chosen there; `costs` of one training step."""

    method: str
    family: str
    note: str
    lr: float
    seeds: tuple[int, ...]
    correct: Bool[Tensor, "seeds items"]
    tried: dict[float, float]
    costs: dict[str, int]

    @property
    def accuracy(self) -> float:
        return self.correct.double().mean().item()


def kept_runs(name: str = "07_sentiment") -> dict[str, Kept]:
    """The methods of a saved extract, in its order. FileNotFoundError says which there are."""
    found = saved(name)
    return {row["method"]: kept(row, found["items"]) for row in found["methods"]}


def kept(row: Mapping, items: int) -> Kept:
    correct = torch.stack([unpack(bits, items) for bits in row["correct"]])
    tried = {lr: accuracy for lr, accuracy in row["tried"]}
    rest = {key: row[key] for key in ("method", "family", "note", "lr", "costs")}
    return Kept(**rest, seeds=tuple(row["seeds"]), correct=correct, tried=tried)


def extract(runs: Iterable[Run], costs: Mapping[str, Mapping] = {}) -> dict:
    """What a lesson needs of the finished methods, as plain values for JSON; methods in the order of their runs."""
    runs = list(runs)
    rows = [row_of(m, by_seed, runs, costs.get(m, {})) for m, by_seed in tested(runs).items()]
    if not rows:
        raise ValueError("there is no finished test run to keep: run the sweep first")
    sizes = {len(run.items) for by_seed in tested(runs).values() for run in by_seed.values()}
    if len(sizes) != 1:
        raise ValueError(f"the runs have different numbers of test items: {sorted(sizes)}")
    return {"items": sizes.pop(), "methods": rows}


def row_of(method: str, by_seed: Mapping[int, Run], runs: list[Run], costs: Mapping) -> dict:
    first = by_seed[min(by_seed)]
    search = [r for r in runs if (r.method, r.split, r.seed) == (method, "dev", SEARCH_SEED) and r.done]
    return {
        "method": method, "family": first.family, "note": first.note, "lr": first.lr, "seeds": sorted(by_seed),
        "tried": sorted([run.lr, round(run.metrics["accuracy"], 4)] for run in search),
        "costs": {key: costs[key] for key in COSTS if key in costs},
        "correct": [pack(by_seed[seed].items) for seed in sorted(by_seed)],
    }  # fmt: skip


def pack(items: str) -> str:
    """ "0110..." in a sixth of the room."""
    return base64.b64encode(np.packbits([c == "1" for c in items]).tobytes()).decode()


def unpack(bits: str, items: int) -> Bool[Tensor, " items"]:
    found = np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=items)
    return torch.from_numpy(found).bool()


def league() -> tuple[dict[str, Tensor], dict[str, str]]:
    """The league that lesson 07 opens with: right or wrong on each test review by row, and what each row is."""
    found = saved("07_null_league")
    rows = {row["shown"]: unpack(row["correct"][0], found["items"]) for row in found["methods"]}
    return rows, {row["shown"]: row["method"] for row in found["methods"]}


def kept_losses(name: str = "07_forgetting") -> dict[str, tuple[Tensor, Tensor]]:
    """method -> its losses on the task and on other texts, each (rates, seeds, blocks): first the untrained model, then
    the rates from the lowest up."""
    runs = saved(name)["runs"]
    before = next(run for run in runs if run["method"] == "before")
    found = {}
    for method in dict.fromkeys(run["method"] for run in runs if run is not before):
        at = {(run["lr"], run["seed"]): run for run in runs if run["method"] == method}
        seeds, rates = (sorted({key[i] for key in at}) for i in (1, 0))
        whole = [lr for lr in rates if all((lr, seed) in at for seed in seeds)]  # while others are still being made
        rows = [[before] * len(seeds), *([at[lr, seed] for seed in seeds] for lr in whole)]
        found[method] = tuple(torch.tensor([[run[k] for run in row] for row in rows]) for k in ("speeches", "films"))
    return found
