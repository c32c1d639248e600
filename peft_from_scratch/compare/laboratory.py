"""One run: train a method with one seed at one rate, score it, keep the line. What it costs, counted once."""

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from math import isfinite

import torch

from ..train import TrainingDiverged, fit
from .bench import Baseline, Bench, Score
from .contestants import CONTESTANTS, Contestant
from .costs import exact_costs
from .provenance import provenance
from .runs import NAMES, Run
from .statistics import REFERENCE
from .store import Store
from .times import step_ratio

REFUSALS = (ValueError, TypeError, NotImplementedError)  # how methods say that a model is not for them


class Laboratory:
    """A bench, and the store with the runs that were made on it. A run that is in the store is not made again."""

    def __init__(self, bench: Bench, store: Store, device: str = "cpu", show: bool = False, dev_too: bool = True):
        self.bench, self.store, self.show, self.dev_too = bench, store, show, dev_too
        self.setting = bench.task.setting
        self.made_with = provenance(bench.task.model, bench.task.data, device)

    def runs(self) -> list[Run]:
        """The finished runs of this setting."""
        lines = [line for line in self.store.lines() if line.get("kind") == "run" and NAMES <= line.keys()]
        return [Run(**{k: line[k] for k in NAMES}) for line in lines if line["setting"] == self.setting]

    def run(self, contestant: Contestant, seed: int, lr: float, split: str) -> Run:
        """Train and score, unless that has been done. On test the same model is scored on dev as well (dev_...), if
        `dev_too`: to choose among methods without having looked at test."""
        found = [run for run in self.runs() if run.key == (contestant.name, seed, lr, split)]
        return found[0] if found else self._keep(self._attempt(contestant, seed, lr, split))

    def baseline(self, baseline: Baseline) -> Run:
        """A row without training, unless it is there."""
        found = [run for run in self.runs() if run.key == (baseline.name, 0, 0.0, "test")]
        if found:
            return found[0]
        begin, run = time.monotonic(), self._blank(baseline.name, baseline.family, 0, 0.0, "test")
        self._fill(run, baseline.score())
        run.note, run.seconds = baseline.note, time.monotonic() - begin
        return self._keep(run)

    def labels(self) -> str:
        """The test items' classes, kept once as a line of their own ("" for language): balanced accuracy needs them."""
        found = [ln for ln in self.store.lines() if ln.get("kind") == "task" and ln["setting"] == self.setting]
        if not found:
            task, told = self.bench.task.name, self.bench.labels("test")
            found = [{"kind": "task", "task": task, "setting": self.setting, "labels": "".join(map(str, told))}]
            self.store.add(found[0])
        return found[0]["labels"]

    def costs(self, contestant: Contestant) -> dict:
        """What one training step costs, exactly: a batch of full length, attention written out in full."""
        return self._once("cost", contestant, lambda: exact_costs(contestant, self.bench))

    def time(self, contestant: Contestant) -> dict:
        """How long one training step takes beside one of full fine-tuning."""
        return self._once("time", contestant, lambda: step_ratio(contestant, CONTESTANTS[REFERENCE], self.bench))

    def _once(self, kind: str, contestant: Contestant, measure: Callable[[], dict]) -> dict:
        """The line of what is measured once for a contestant; where that fails, it has a note instead of figures."""
        mark = {"kind": kind, "method": contestant.name, "setting": self.setting}
        for line in self.store.lines():
            if mark.items() <= line.items():
                return line
        line = mark | {"task": self.bench.task.name, "note": "", "provenance": self.made_with}
        try:
            line |= measure()
        except Exception as error:  # the row stays, without these figures
            line["note"] = first_line(error)
        self.store.add(line)
        return line

    def _attempt(self, contestant: Contestant, seed: int, lr: float, split: str) -> Run:
        run = self._blank(contestant.name, contestant.family, seed, lr, split)
        run.note = contestant.note
        try:
            self._train(run, contestant)
        except TrainingDiverged as error:
            run.status, run.note = "nan", str(error)
        except REFUSALS as error:
            run.status, run.note = "cannot", first_line(error)
        except Exception as error:  # one row must not end a night's sweep: the line says what happened
            run.status, run.note = "memory" if out_of_memory(error) else "cannot", first_line(error)
            if run.status == "cannot":
                traceback.print_exc()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return run

    def _train(self, run: Run, contestant: Contestant) -> None:
        bench, order = self.bench, self.bench.order(run.seed)
        torch.manual_seed(run.seed)  # the adapters' start
        model = contestant.adapt(bench.model(run.seed), order(0) if contestant.examples else ())
        model.to(bench.task.device)
        steps = bench.task.epochs * len(order(0))
        history = fit(
            model, order, lr=run.lr, epochs=bench.task.epochs, seed=run.seed, device=bench.task.device,
            amp=bench.task.amp, progress=self.show, label=f"{run.method}, seed {run.seed}",
            **contestant.fit(model, steps),
        )  # fmt: skip
        run.seconds, run.steps = history.seconds, history.steps
        if run.split == "test":
            self._fill(run, bench.score(model, "test"))
        if run.split == "test" and self.dev_too and run.done:
            run.metrics |= {f"dev_{k}": v for k, v in bench.score(model, "dev").metrics.items()}
        if run.split == "dev":
            self._fill(run, Score(bench.score(model, "dev").metrics))  # a search needs no single items

    def _blank(self, method: str, family: str, seed: int, lr: float, split: str) -> Run:
        task = self.bench.task.name
        return Run(task, method, family, seed, lr, split, "done", self.setting, provenance=self.made_with)

    def _fill(self, run: Run, score: Score) -> None:
        if not all(map(isfinite, score.metrics.values())):
            run.status, run.note = "nan", "a score is not a finite number"
            return
        run.metrics, run.items, run.exact = score.metrics, score.items, score.exact

    def _keep(self, run: Run) -> Run:
        self.store.add(asdict(run))
        return run


def out_of_memory(error: BaseException) -> bool:
    """torch has one class for a GPU and only words for the CPU."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def first_line(error: BaseException) -> str:
    words = (str(error).strip().splitlines() or [""])[0][:300]
    return words if isinstance(error, REFUSALS) else f"{type(error).__name__}: {words}"
