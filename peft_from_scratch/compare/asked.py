"""What a command line asks for: tasks with their bases and budgets, and the methods that are run on them."""

import argparse
from dataclasses import dataclass, replace

from ..assets import AssetError, suggestion
from ..course.budget import budget
from ..models import load
from .contestants import CONTESTANTS, Contestant
from .tasks import CLASSES, TASKS, Task


@dataclass(frozen=True)
class Size:
    """`passes`: over the training data; `searching`: for rates, on dev; `share`: of the task's rows."""

    seeds: int
    passes: int
    searching: bool
    share: float


BUDGETS = {
    "small": Size(seeds=2, passes=1, searching=False, share=0.4),
    "standard": Size(seeds=5, passes=1, searching=True, share=1.0),
    "full": Size(seeds=5, passes=3, searching=True, share=1.0),
}
SMALL = (  # what `make compare` runs: every family, in under 25 minutes on two slow cores
    "full", "head only", "BitFit", "SHiRA", "LoRA", "LoRA all-linear", "DoRA", "VeRA", "OFT", "(IA)³", "LoReFT",
    "Pfeiffer", "prompt",
)  # fmt: skip
LARGER = {"minilm": "FacebookAI/roberta-base", "smollm2": "HuggingFaceTB/SmolLM2-360M-Instruct"}  # for a GPU
FEW = ("full", "head only", "BitFit", "LoRA", "(IA)³", "Pfeiffer")  # the low-data tables
TEXT = ("full", "LN-tuning", "LoRA", "LoRA all-linear", "DoRA", "(IA)³", "Pfeiffer", "OFT", "prefix", "prompt")


def task_names(given: str) -> list[str]:
    """Names with commas; `low` stands for all of low-*. ValueError for an unknown one."""
    names = []
    for name in given.split(","):
        names += [known for known in TASKS if known.startswith("low-")] if name == "low" else [name]
    for name in names:
        if name not in TASKS:
            raise ValueError(f"there is no task called {name!r}{suggestion(name, TASKS)}")
    return names


def chosen_task(name: str, args: argparse.Namespace) -> Task:
    """The whole of it, for which rates are searched."""
    task = TASKS[name].on(budget())
    return replace(task, epochs=task.epochs * BUDGETS[args.budget].passes, model=args.model or usual_base(task))


def part_of(task: Task, share: float) -> Task:
    """Fewer rows, in batches as much smaller: as many steps, for which the same rates are good. low-* keep the
    examples that they are named after."""
    smaller = ("dev", "test") if task.drawn else ("train", "batch", "dev", "test")
    return replace(task, **{name: max(1, round(share * getattr(task, name))) for name in smaller})


def usual_base(task: Task) -> str:
    """The task's own; on a GPU a larger one, where the hub gives it."""
    if task.device == "cpu" or task.model not in LARGER:
        return task.model
    try:
        load(LARGER[task.model], "classify" if task.kind == CLASSES else "generate")
    except AssetError as error:
        print(f"{error}. Until then the base is {task.model}")
        return task.model
    return LARGER[task.model]


def chosen_methods(task: Task, args: argparse.Namespace) -> list[Contestant]:
    """Those asked for; else the budget's for this kind of task. ValueError for an unknown name."""
    if args.methods == "all":
        return list(CONTESTANTS.values())
    asked = [name.strip() for name in args.methods.split(",") if name.strip()]
    usual = FEW if task.drawn else TEXT if task.kind != CLASSES else SMALL
    everything = args.budget != "small" and task.kind == CLASSES and not task.drawn
    names = asked or (CONTESTANTS if everything else usual)
    for name in names:
        if name not in CONTESTANTS:
            raise ValueError(f"there is no method called {name!r}{suggestion(name, CONTESTANTS)}")
    return [CONTESTANTS[name] for name in names]
