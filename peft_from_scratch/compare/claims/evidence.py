"""Where a claim finds its figures: the sweep's tables, runs of its own, and measurements of its own.

Its own go to `<results>/<device>/claims-<task>.jsonl`, one line each, as the sweep's do: nothing that is there is made
again, and a killed command goes on where it stopped.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...course.budget import budget
from ...measure.intervals import as_scores
from ..contestants import Contestant
from ..laboratory import Laboratory
from ..provenance import device_slug, provenance
from ..rates import next_rates
from ..report.read import CLAIMS, Table, add_line, read_lines, read_tables, runs_of
from ..runs import Run
from ..statistics import tested
from ..store import Store
from ..sweep import Plan, Wish, sweep
from ..tasks import Task
from .claim import Missing

MAKE = "python -m peft_from_scratch compare claims --run"


@dataclass(frozen=True)
class Experiment:
    """Runs that only a claim needs: rates searched with each seed of `searched` (0 among them), on dev; then the seeds
    of `tested` at the best rate of seed 0, on test."""

    task: Task
    contestants: tuple[Contestant, ...]
    searched: tuple[int, ...] = (0,)
    tested: tuple[int, ...] = ()


class Ladder(Plan):
    """The plan of one contestant of an experiment."""

    def __init__(self, contestant: Contestant, experiment: Experiment):
        super().__init__(contestant, experiment.tested)
        self.searched = experiment.searched

    def wants(self, runs: Iterable[Run]) -> list[Wish]:
        mine = [run for run in runs if run.method == self.contestant.name]
        wanted = super().wants(mine)
        if any(run.status in ("cannot", "memory") for run in mine):
            return []
        for seed in set(self.searched) - {0}:
            tried = {run.lr: run for run in mine if run.split == "dev" and run.seed == seed}
            wanted += [(seed, lr, "dev") for lr in next_rates(self.contestant.lr, tried)]
        return wanted


class WithSweep(Laboratory):
    """A laboratory in which the runs that the sweep made at this setting need not be made again."""

    borrowed: list[Run]

    def runs(self) -> list[Run]:
        return self.borrowed + super().runs()


class Evidence:
    """What is in a results folder for the machine at hand; with `running`, what is missing is made."""

    def __init__(self, folder: Path, running: bool = False):
        self.folder, self.running, self.machine = Path(folder), running, budget()
        self.device = device_slug(self.machine.device)
        self.tables = [table for table in read_tables(self.folder) if table.device == self.device]

    def sweep(self, task: str) -> Table:
        """The sweep's table of a task; of several settings, the one with most runs."""
        found = [table for table in self.tables if table.task == task]
        if not found:
            raise Missing(f"no runs of {task} in {self.folder}: python -m peft_from_scratch compare --task {task}")
        return found[0]

    def items(self, task: str, *methods: str) -> tuple[Tensor, ...]:
        """The test items of several methods, on the seeds that all have."""
        return common(tested(self.sweep(task).runs), methods, f"the sweep of {task}")

    def made(self, experiment: Experiment) -> list[Run]:
        """All runs of an experiment; Missing where some are not there and nothing is to be run."""
        task = experiment.task.on(self.machine)
        plans = [Ladder(contestant, experiment) for contestant in experiment.contestants]
        runs = self.own_runs(task)
        if not any(plan.wants(runs) for plan in plans):
            return runs
        if not self.running:
            left = sum(plan.left(runs) for plan in plans)
            raise Missing(f"about {left} runs of {task.name} are missing: {MAKE}")
        sweep(self.laboratory(task), plans)
        return self.own_runs(task)

    def own_runs(self, task: Task) -> list[Run]:
        """The runs of a task's setting, the sweep's first."""
        path = self.folder / self.device / f"{CLAIMS}{task.name}.jsonl"
        table = Table(self.device, task.name, task.setting, self.swept_runs(task))
        for line in read_lines(path) if path.exists() else ():
            if line.get("setting") == task.setting:
                add_line(table, line)
        return table.runs

    def swept_runs(self, task: Task) -> list[Run]:
        return runs_of(self.tables, self.device, task.name, task.setting)

    def laboratory(self, task: Task) -> Laboratory:
        lab = WithSweep(task.bench(), Store(self.folder, self.device, f"{CLAIMS}{task.name}"), self.device)
        lab.borrowed = self.swept_runs(task)
        return lab

    def measured(self, task: Task, what: str, key: Sequence, make: Callable[[], dict]) -> dict:
        """The values of a measurement that is no run; made by `make` where they are missing and may be made."""
        task = task.on(self.machine)
        mark = {"kind": "measured", "what": what, "key": list(key), "setting": task.setting}
        store = Store(self.folder, self.device, f"{CLAIMS}measured")
        for line in store.lines():
            if mark.items() <= line.items():
                return line["values"]
        if not self.running:
            raise Missing(f"{what} is not measured yet: {MAKE}")
        line = mark | {"values": make(), "provenance": provenance(task.model, task.data, self.device)}
        store.add(line)
        return line["values"]


def common(found: dict[str, dict[int, Run]], methods: Sequence[str], where: str) -> tuple[Tensor, ...]:
    """Scores (seeds, items) of each method on the seeds that all of them have."""
    for method in methods:
        if method not in found:
            raise Missing(f"{where} has no finished test run of {method}")
    seeds = sorted(set.intersection(*(set(found[m]) for m in methods)))
    if not seeds:
        raise Missing(f"{where} has no seed that {' and '.join(methods)} share")
    return tuple(as_scores([found[m][s].items for s in seeds]) for m in methods)
