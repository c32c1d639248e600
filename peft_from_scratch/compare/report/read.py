"""What a results folder holds, by device, task and setting. The report reads these lines and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...measure.intervals import Interval, Labels
from ..runs import NAMES, Run
from ..store import parsed
from ..tasks import TASKS

CLAIMS = "claims-"  # files of the runs that only a claim needs: they are in no table


@dataclass
class Table:
    """The runs that may be compared with each other: one task, one setting, one device."""

    device: str
    task: str
    setting: str
    runs: list[Run] = field(default_factory=list)
    costs: dict[str, dict] = field(default_factory=dict)  # method -> its line of costs
    times: dict[str, Interval] = field(default_factory=dict)  # method -> seconds of a step over those of full
    classes: str = ""  # of the test items, a digit each

    @property
    def metric(self) -> str:
        """What its figures are about: balanced accuracy where classes are unequal, else accuracy, else loss."""
        measured = {name for run in self.runs for name in run.metrics}
        return next(m for m in ("balanced_accuracy", "accuracy", "log_loss") if m in measured or m == "log_loss")

    @property
    def groups(self) -> Labels | None:
        """The test items' classes where they are to count alike."""
        known = self.metric == "balanced_accuracy" and self.classes
        return torch.tensor([int(c) for c in self.classes]) if known else None

    @property
    def name(self) -> str:
        return self.metric.replace("_", " ").replace("log loss", "log-loss")

    def searched(self) -> dict[str, dict[float, Run]]:
        """method -> rate -> the run of its search on dev."""
        found: dict[str, dict[float, Run]] = {}
        for run in self.runs:
            if run.split == "dev" and run.seed == 0:
                found.setdefault(run.method, {})[run.lr] = run
        return found


def read_tables(folder: Path) -> list[Table]:
    """All tables of a folder, tasks in their usual order; of several settings, the one with most runs first."""
    tables: dict[tuple, Table] = {}
    for path in sorted(Path(folder).glob("*/*.jsonl")):
        if not path.name.startswith(CLAIMS):
            for line in read_lines(path):
                key = path.parent.name, path.stem, line.get("setting", "")
                add_line(tables.setdefault(key, Table(*key)), line)
    order = list(TASKS)
    place = {name: i for i, name in enumerate(order)}
    whole = [table for table in tables.values() if table.runs]
    return sorted(whole, key=lambda t: (t.device != "cpu", t.device, place.get(t.task, len(order)), -len(t.runs)))


def runs_of(tables: Iterable[Table], device: str, task: str, setting: str) -> list[Run]:
    """The runs of one setting; [] where there are none."""
    wanted = device, task, setting
    return [run for t in tables if (t.device, t.task, t.setting) == wanted for run in t.runs]


def read_lines(path: Path) -> Iterable[dict]:
    """The lines that can be read; one that is being written is left for the next time."""
    return [value for line in path.read_bytes().split(b"\n") if (value := parsed(line)) is not None]


def add_line(table: Table, line: dict) -> None:
    if line.get("kind") == "run" and NAMES <= line.keys():
        table.runs.append(Run(**{k: line[k] for k in NAMES}))
    if line.get("kind") == "cost":
        table.costs[line["method"]] = line
    if line.get("kind") == "time" and "ratio" in line:
        table.times[line["method"]] = Interval(line["ratio"], line["low"], line["high"])
    if line.get("kind") == "task":
        table.classes = line["labels"]


def made_with(tables: Iterable[Table]) -> dict[str, dict[str, int]]:
    """For each part of the provenance: its values, and how many runs have each."""
    found: dict[str, dict[str, int]] = {}
    for run in (run for table in tables for run in table.runs):
        for key, value in run.provenance.items():
            counts = found.setdefault(key, {})
            counts[str(value)] = counts.get(str(value), 0) + 1
    return found
