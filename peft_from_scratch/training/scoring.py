"""What a model scores on batches that it does not train on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from .running import Batch, device_of, inputs, mode, model_loss


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (0 to 1), mean log-loss (nats an item), and for each item, in the data's order, whether it was right."""

    accuracy: float
    log_loss: float
    correct: Bool[Tensor, "n"]

    @property
    def n(self) -> int:
        return len(self.correct)


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> Evaluation:
    """Score a classifier on batches with "labels", in eval mode; the model is left in the mode it was in.

    Where batches hold "index" (batches sorted by length do), `correct` is put back in that order, so that two runs
    can be compared item by item. ValueError for no batches, and for an item that comes twice.
    """
    right, losses, places, device = [], [], [], device_of(model)
    with mode(model, False), torch.inference_mode():
        for batch in batches:
            given = inputs(batch, device)
            if "labels" not in given:
                raise ValueError(f"the batch has no 'labels' to score against, only {sorted(given)}")
            labels = given.pop("labels")
            logits = model(**given).logits.float()
            losses.append(F.cross_entropy(logits, labels, reduction="none").double().cpu())
            right.append((logits.argmax(-1) == labels).cpu())
            if "index" in batch:
                places.append(torch.as_tensor(batch["index"]).cpu())
    if not right:
        raise ValueError("there are no batches to score: is the split empty, or a generator already used up?")
    correct = torch.cat(right)
    if places:
        correct = _in_order(correct, torch.cat(places))
    return Evaluation(correct.double().mean().item(), torch.cat(losses).mean().item(), correct.clone())


def lm_loss(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Mean log-loss of a language model over all predicted tokens of all batches, in nats a token.

    Labels of -100 are not predicted; nor is a text's first token, but for T5 and its like. A mean of batch means would
    favour short batches.
    """
    total, tokens, device = 0.0, 0, device_of(model)
    start = 0 if getattr(getattr(model, "config", None), "is_encoder_decoder", False) else 1
    with mode(model, False), torch.inference_mode():
        for batch in batches:
            given = inputs(batch, device)
            loss = model_loss(model, given)
            n = int((given["labels"][:, start:] != -100).sum())
            if n:  # a batch without any target has the loss nan
                total, tokens = total + loss.item() * n, tokens + n
    if not tokens:
        raise ValueError("no batch has a token to predict: is the data empty, or are all labels -100?")
    return total / tokens


def _in_order(values: Tensor, index: Tensor) -> Tensor:
    if len(index) != len(values):
        raise ValueError(f"only {len(index)} of {len(values)} items have an 'index': give it in all batches or in none")
    if len(index.unique()) < len(index):
        raise ValueError("an item's 'index' comes twice: the batches must hold each item of the split once")
    return values[index.argsort()]
