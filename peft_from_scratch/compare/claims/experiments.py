"""The runs that claims need beside the sweep's: which methods, on which task, with which seeds."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from ...methods.lowrank import said
from ...methods.lowrank.dora import DoRA
from ...methods.lowrank.lora import LoRA
from ...methods.prompts.prompt_tuning import prompt_tuning
from ...targets import Targets
from ..contestants import CONTESTANTS, Contestant, at, of, row
from ..hosts import host_of
from ..tasks import TASKS
from .evidence import Experiment

RANKS = (1, 4, 16, 64)
SEEDS = (0, 1, 2, 3, 4)
SMALL = TASKS["low-1000"]  # 1,000 examples, drawn by the seed
SIZES = (64, 256)  # batches, beside the usual 16


def lora(rank: int) -> Contestant:
    """s = 32 / r, as in "LoRA Without Regret"."""
    return row(f"LoRA r{rank}", "low rank", at("query_value", partial(LoRA, rank=rank, alpha=32)), -5, "alpha 32; q, v")


def growing(rank: int) -> Contestant:
    """s = 2 whatever the rank: the control."""
    factory = partial(LoRA, rank=rank, alpha=2 * rank)
    return row(f"LoRA r{rank}, alpha 2r", "low rank", at("query_value", factory), -5, "alpha 2r; q, v")


def low_rank(name: str, method: Callable) -> Contestant:
    return row(name, "low rank", at("query_value", partial(method, rank=2, alpha=4)), -5, "rank 2, alpha 4; q, v")


def directions(numbers: int) -> Contestant:
    def targets(model: nn.Module) -> Targets:
        sites = host_of(model).query_value
        return {sites: said.shared(model, sites, numbers)}

    return row(f"SAID d{numbers}", "low rank", of(targets), -3, f"{numbers} directions; q, v")


def somewhere(name: str, sites: str, rank: int) -> Contestant:
    """LoRA at other places of a Llama."""
    return row(name, "low rank", of(lambda model: {sites: partial(LoRA, rank=rank, alpha=32)}), -5, f"rank {rank}")


RANK = Experiment(SMALL, (CONTESTANTS["full"], *map(lora, RANKS)), searched=SEEDS, tested=SEEDS)
CONTROL = Experiment(SMALL, tuple(map(growing, RANKS)), searched=SEEDS[:3])
DIMENSIONS = (30, 300, 3000)
DIMENSION = Experiment(TASKS["sentiment"], tuple(map(directions, DIMENSIONS)), tested=SEEDS[:3])
random_prompt = row("prompt, random start", "prompts", of(lambda m: prompt_tuning(m, start="random")), -1, "20 vectors")
PROMPT = Experiment(TASKS["sentiment"], (random_prompt, CONTESTANTS["prompt"]), tested=SEEDS)
DORA = Experiment(TASKS["sentiment"], (low_rank("LoRA r2", LoRA), low_rank("DoRA r2", DoRA)), tested=SEEDS)
PLACES = Experiment(  # at 61,440, 63,360 and 61,056 numbers a layer
    TASKS["style"],
    (
        somewhere("attention r16", r".*\.(q|k|v|o)_proj", 16),
        somewhere("MLP r10", r".*\.(gate|up|down)_proj", 10),
        somewhere("all-linear r6", r".*_proj", 6),
    ),
    tested=SEEDS,
)
BATCHES = {
    size: Experiment(replace(SMALL, batch=size), (CONTESTANTS["full"], lora(16)), searched=SEEDS[:3]) for size in SIZES
}
CORPORA = Experiment(TASKS["style"], (CONTESTANTS["full"], CONTESTANTS["LoRA all-linear"]), searched=SEEDS[:3])
