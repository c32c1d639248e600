"""How long a training step of a contestant takes, as a share of full fine-tuning's: both take steps by turns.

The seconds of whole runs are not comparable: each was made beside whatever else the machine did at that hour. Here the
two models take one step each, 15 times, so that all else falls on both. Of 15 rounds the quartiles of the ratio are its
4th and its 12th value, and these hold its true median with 96 % confidence (binomial), whatever the noise looks like.
What comes only now and then (GaLore's new directions, every 50 steps) falls into the warm-up and is not in the ratio.
"""

from collections.abc import Callable

import torch

from ..adapt import trained
from ..measure import interleaved_ratio
from ..training import optimizers
from ..training.running import device_of, model_loss
from ..training.update import Update, precision
from .bench import Bench
from .contestants import Contestant

ROUNDS = 15
TINY = 1e-9  # a rate at which nothing is learned and all is computed


def step_ratio(contestant: Contestant, full: Contestant, bench: Bench, rounds: int = ROUNDS) -> dict[str, float]:
    """Median and quartiles of the seconds of a step over those of full fine-tuning."""
    found = interleaved_ratio(stepper(contestant, bench), stepper(full, bench), rounds)
    return {"ratio": found.median, "low": found.low, "high": found.high, "rounds": rounds}


def stepper(contestant: Contestant, bench: Bench) -> Callable[[], None]:
    """A function that makes one step on a batch of full length, as `train.fit` makes it."""
    torch.manual_seed(0)
    examples = bench.order(0)(0)[:1] if contestant.examples else ()
    model = contestant.adapt(bench.model(0), examples).to(bench.task.device).train()
    batch, parameters, more = bench.full_step(model), trained(model), contestant.fit(model, 100)
    kept = precision(bench.task.amp, device_of(model), parameters)
    made = optimizers.make(more.get("optimizer") or optimizers.adamw(0.0), model, TINY, 1, kept[1].is_enabled())
    update = Update(model, parameters, made, more.get("loss_fn", model_loss), kept, 1.0)
    after, taken = more.get("on_step", lambda step, loss: None), 0

    def step() -> None:
        nonlocal taken
        loss, _ = update([batch], 1.0, taken, check=False)
        taken += 1
        after(taken, loss)

    return step
