"""`python -m peft_from_scratch compare`: make the runs of a table, or (`report`, `claims`) read what was made."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..assets import AssetError
from .asked import BUDGETS, chosen_methods, chosen_task, part_of, task_names
from .bench import Baseline
from .contestants import Contestant
from .laboratory import Laboratory
from .provenance import device_slug
from .rates import known_rates
from .sharing import helpers
from .store import Store
from .sweep import Plan, sweep
from .tasks import TASKS, Task

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", nargs="?", default="sweep", choices=("sweep", "report", "claims"), help="default: sweep")
    add("--task", default="sentiment", help=f"{', '.join(TASKS)}; low for all of low-*; several with commas")
    add(
        "--model",
        help="another base than the task's (on a GPU a larger one): minilm, smollm2, a folder, organisation/name",
    )
    add("--methods", default="", help="all, or names with commas; default: the budget's")
    add("--seeds", type=int, help="runs of each method at its best rate")
    add("--budget", default="standard", choices=BUDGETS, help="small: two seeds at known rates, 40 %% of the data")
    add("--jobs", type=int, default=1, help="processes that share the runs, and the cores (default 1)")
    add("--helper", action="store_true", help=argparse.SUPPRESS)  # one of the processes that --jobs starts
    add("--results", type=Path, default=Path("outputs/compare"), help="folder of the runs (default outputs/compare)")
    add("--rates", type=Path, default=COMMITTED, help="folder of runs whose best rates the small budget uses")
    add("--out", type=Path, help="folder of the report (default: that of the runs)")
    add("--run", dest="run_missing", action="store_true", help="claims: make the runs that are missing, too")
    add("--only", default="", help="claims: the names of some, with commas")


def run(args: argparse.Namespace) -> int:
    if args.action == "report":
        from . import report

        return report.run(args)
    if args.action == "claims":
        from . import claims

        return claims.run(args)
    try:
        if args.seeds is not None and args.seeds < 1:
            raise ValueError(f"--seeds is {args.seeds}: at least one run of each method is needed")
        tasks = [chosen_task(name, args) for name in task_names(args.task)]
        chosen = [(task, chosen_methods(task, args)) for task in tasks]
        args.results.mkdir(parents=True, exist_ok=True)
        with helpers(args):
            for task, contestants in chosen:
                run_task(task, contestants, args)
    except (ValueError, AssetError, OSError) as error:
        print(f"{error}. What was finished is kept in {args.results}, and the same command goes on from there")
        return 2
    if not args.helper:
        print(f"done. The figures: python -m peft_from_scratch compare report --results {args.results}")
    return 0


def run_task(whole: Task, contestants: list[Contestant], args: argparse.Namespace) -> None:
    size, device = BUDGETS[args.budget], device_slug(whole.device)
    task = part_of(whole, size.share)
    bench = task.bench()
    # With few examples no verdict is chosen on dev, so that the finished models need not be scored there
    lab = Laboratory(bench, Store(args.results, device, task.name), device, dev_too=not task.drawn)
    seeds = range(args.seeds or size.seeds)
    say = (lambda words: None) if args.helper else partial(print, flush=True)
    say(f"{task.name}: {lab.setting}; {len(contestants)} methods, {len(seeds)} seeds; runs in {lab.store.path}")
    rates = {} if size.searching else rates_for(whole, args.rates, device)
    plans = [Plan(c, seeds, rates.get(c.name, None if size.searching else c.lr), task.chosen_by) for c in contestants]
    with lab.store.claim(lab.setting, "labels") as mine:
        if mine:
            lab.labels()
    for baseline in bench.baselines():
        make_baseline(lab, baseline)
    say("costs of a step of each method, where it is not known yet")
    once(lab, "costs", lab.costs, contestants)  # before the sweep, so that a report of what is there so far is whole
    sweep(lab, plans)
    if not task.drawn:  # the sizes of low-* have the steps of sentiment
        say("time of a step of each method, beside full fine-tuning's")
        once(lab, "time", lab.time, contestants)


def once(lab: Laboratory, what: str, measure: Callable[[Contestant], dict], contestants: list[Contestant]) -> None:
    """Measure what each contestant is measured for once, but for those that another process is at."""
    for contestant in contestants:
        with lab.store.claim(lab.setting, contestant.name, what) as mine:
            if mine:
                measure(contestant)


def make_baseline(lab: Laboratory, baseline: Baseline) -> None:
    with lab.store.claim(lab.setting, baseline.name) as mine:
        if mine and all(run.method != baseline.name for run in lab.runs()):
            found = lab.baseline(baseline)
            print(f"{found.method}: " + "  ".join(f"{k} {v:.3f}" for k, v in found.metrics.items()), flush=True)


def rates_for(task: Task, folder: Path, device: str) -> dict[str, float]:
    """The best rates that a finished search of this task found."""
    from .report.read import read_tables, runs_of

    found = runs_of(read_tables(folder), device, task.name, task.setting)
    if not found:
        print(f"no rates of {task.name} on {device} in {folder}: each method runs at its first guess, not searched")
    return known_rates(found, task.chosen_by)
