"""Which runs are wanted, and making them: rates first, on dev and with one seed, then every seed at the best, on test.

A sweep has no state but its store. What is wanted next follows from the lines that are there, so a sweep that was
killed goes on, and two processes on one folder share the work.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from .contestants import Contestant
from .laboratory import Laboratory
from .rates import LOSS, SEARCH_SEED, best_rate, next_rates
from .runs import Run

Wish = tuple[int, float, str]  # seed, rate, split


class Plan:
    """What one contestant is to run. `rate`: a rate that is known already; None: search for the best by this metric."""

    def __init__(self, contestant: Contestant, seeds: Sequence[int], rate: float | None = None, by: str = LOSS):
        self.contestant, self.seeds, self.rate, self.by = contestant, seeds, rate, by

    def wants(self, runs: Iterable[Run]) -> list[Wish]:
        """The runs that can be made now, given those that are there; [] when all is done."""
        mine = [run for run in runs if run.method == self.contestant.name]
        if any(run.status in ("cannot", "memory") for run in mine):
            return []  # another rate would not help
        rate = self.rate
        if rate is None:
            tried = {run.lr: run for run in mine if run.split == "dev" and run.seed == SEARCH_SEED}
            if search := next_rates(self.contestant.lr, tried, self.by):
                return [(SEARCH_SEED, lr, "dev") for lr in search]
            rate = best_rate(tried, self.by)
            if not tried[rate].done:
                return []  # no rate trains
        there = {(run.seed, run.lr) for run in mine if run.split == "test"}
        return [(seed, rate, "test") for seed in self.seeds if (seed, rate) not in there]

    def left(self, runs: Iterable[Run]) -> int:
        """About how many runs are still to come."""
        mine = [run for run in runs if run.method == self.contestant.name]
        wanted = self.wants(mine)
        searching = bool(wanted) and wanted[0][2] == "dev"
        expected = max(len(wanted), 4 - len(mine)) + len(self.seeds) if searching else len(wanted)
        return expected


def sweep(lab: Laboratory, plans: Sequence[Plan], poll: float = 2.0) -> None:
    """Make all runs that the plans want and nobody else is making; return when none is left."""
    begin, there = time.monotonic(), len(lab.runs())
    while True:
        runs = lab.runs()
        wanted = [(plan, wish) for plan in plans for wish in plan.wants(runs)]
        if not wanted:
            return
        for plan, wish in wanted:
            with ExitStack() as stack:
                if not stack.enter_context(lab.store.claim(lab.setting, plan.contestant.name, *wish)):
                    continue
                seed, lr, split = wish
                run = lab.run(plan.contestant, seed, lr, split)  # looks again: another process may just have made it
                runs = lab.runs()
                pace = (time.monotonic() - begin) / max(len(runs) - there, 1)  # others' runs count: they share the work
                tell(run, pace * sum(plan.left(runs) for plan in plans))
                break
        else:
            time.sleep(poll)  # all that can be done is being done by others; what they find may want more


def tell(run: Run, left: float) -> None:
    """One line: what was found, and about how many seconds the rest takes."""
    figures = "  ".join(f"{k} {v:.3f}" for k, v in run.metrics.items() if not k.startswith("dev_"))
    found = figures if run.done else f"{run.status}: {run.note}"
    print(
        f"{run.method:16s} {run.lr:7.1e}  seed {run.seed}  {run.split:4s}  {found}  {run.seconds:.0f} s"
        f"  | about {left / 60:.0f} min left",
        flush=True,
    )
