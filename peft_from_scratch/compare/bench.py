"""A task with its data at hand: what a run needs from it, whatever the task."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from ..data import batches, load_data
from ..models import load
from ..training.running import Batch
from .tasks import Task


@dataclass(frozen=True)
class Score:
    """`items`: for each test item, in the data's order, whether it was right ("0110...") or its loss."""

    metrics: dict[str, float]
    items: str | list[float] = ""
    exact: str = ""  # where items are losses: whether the whole answer is the one that greedy decoding writes


@dataclass
class Baseline:
    """A row that nothing is trained for."""

    name: str
    note: str
    score: Callable[[], Score] = field(repr=False)
    family: str = "no training"


class Bench:
    """Data encoded once; the same order of batches and the same start of the head for every method with a seed."""

    load_as = "classify"

    def __init__(self, task: Task):
        self.task = task
        self.tokenizer = load(task.model, self.load_as)[1]
        self.pad = self.tokenizer.pad_token_id
        self.sets = {split: self.encode(rows) for split, rows in self.rows().items()}
        for split, wanted in {"dev": task.dev, "test": task.test}.items():
            if len(self.sets[split]) < wanted:
                raise ValueError(f"{task.data} has {len(self.sets[split])} {split} rows, {task.name} asks for {wanted}")
            self.sets[split] = self.sets[split][:wanted]

    def rows(self) -> dict:
        """The splits, as rows."""
        return load_data(self.task.data)

    def encode(self, rows) -> list[dict]:
        """Rows as token ids and labels."""
        raise NotImplementedError

    def labels(self, split: str) -> list[int]:
        """The class of each item, where there are classes."""
        return []

    def score(self, model: nn.Module, split: str) -> Score:
        """What a model gets on dev or test."""
        raise NotImplementedError

    def baselines(self) -> Iterator[Baseline]:
        """The rows without training."""
        raise NotImplementedError

    def model(self, seed: int, **kwargs) -> nn.Module:
        """The plain pretrained model on its device; a new head is drawn from the seed."""
        return load(self.task.model, self.load_as, seed=seed, **kwargs)[0].to(self.task.device)

    def training_rows(self, seed: int) -> list[dict]:
        """The first rows of the training split, or, where the task says so, rows drawn by the seed."""
        rows, n = self.sets["train"], self.task.train
        if len(rows) < n:
            raise ValueError(f"{self.task.data} has {len(rows)} training rows, {self.task.name} asks for {n}")
        return random.Random(seed).sample(rows, n) if self.task.drawn else rows[:n]

    def order(self, seed: int) -> Callable[[int], list[Batch]]:
        """epoch -> its batches: a new order in each, the same for every method."""
        rows = self.training_rows(seed)
        return lambda epoch: batches(rows, self.task.batch, self.pad, shuffle_seed=1000 * seed + epoch)

    def full_step(self, model: nn.Module) -> Batch:
        """A batch of full length, on which costs are counted."""
        batch, length = self.task.batch, self.task.length
        ids = torch.arange(batch * length).reshape(batch, length) % (model.config.vocab_size - 10) + 5
        labels = torch.arange(batch) % 2 if self.load_as == "classify" else ids
        step = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        return {key: tensor.to(self.task.device) for key, tensor in step.items()}
