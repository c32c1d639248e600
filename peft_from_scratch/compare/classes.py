"""Classification: accuracy and log-loss, and two rows without training."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data import batches, encode, load_data
from ..models import load
from ..train import evaluate
from ..training.running import inputs
from .bench import Baseline, Bench, Score

MOVED = 2000  # test rows that low-data tasks train on instead, so that 4,000 examples can be had


class Classes(Bench):
    """A new linear head on a pretrained body."""

    def rows(self) -> dict:
        data = load_data(self.task.data)
        rows = {split: list(data[split]) for split in ("train", "dev", "test")}
        if self.task.drawn and self.task.data == "reviews":
            rows["train"], rows["test"] = rows["train"] + rows["test"][:MOVED], rows["test"][MOVED:]
        return rows

    def encode(self, rows) -> list[dict]:
        return encode(rows, self.tokenizer, self.task.length)

    def labels(self, split: str) -> list[int]:
        return [row["labels"] for row in self.sets[split]]

    def score(self, model: nn.Module, split: str) -> Score:
        found = evaluate(model, batches(self.sets[split], 64, self.pad))
        return self.scored(found.correct, split, log_loss=found.log_loss)

    def scored(self, correct: Tensor, split: str, **metrics: float) -> Score:
        metrics = {"accuracy": correct.double().mean().item(), **metrics}
        if self.task.balanced:
            labels = torch.tensor(self.labels(split))
            each = [correct[labels == label].double().mean() for label in labels.unique()]
            metrics["balanced_accuracy"] = torch.stack(each).mean().item()
        return Score(metrics, "".join(str(int(c)) for c in correct))

    def baselines(self) -> Iterator[Baseline]:
        yield Baseline(
            "majority class", "the class that training has most of; its shares as probabilities", self.majority
        )
        yield Baseline("nearest class mean", "means of the frozen model's text vectors; no log-loss", self.nearest)

    def majority(self) -> Score:
        labels, test = torch.tensor([row["labels"] for row in self.training_rows(0)]), torch.tensor(self.labels("test"))
        share = (labels.bincount(minlength=2) + 1) / (len(labels) + 2)  # never a probability of 0
        return self.scored(test == share.argmax(), "test", log_loss=-share.log()[test].mean().item())

    def nearest(self) -> Score:
        body = load(self.task.model, "embed")[0].to(self.task.device)
        rows = self.training_rows(0)
        labels, vectors = torch.tensor([row["labels"] for row in rows]), self.vectors(body, rows)
        means = torch.stack([vectors[labels == c].mean(0) for c in labels.unique()])
        guess = labels.unique()[torch.cdist(self.vectors(body, self.sets["test"]), means).argmin(1)]
        return self.scored(guess == torch.tensor(self.labels("test")), "test")

    @torch.inference_mode()
    def vectors(self, body: nn.Module, rows: list[dict]) -> Float[Tensor, "n width"]:
        """The mean of a text's last hidden states, at length one."""
        out = [None] * len(rows)
        for batch in batches([{"input_ids": row["input_ids"]} for row in rows], 64, self.pad):
            h = body(**inputs(batch, body.device)).last_hidden_state.cpu()
            mask = batch["attention_mask"][..., None]
            for i, v in zip(batch["index"].tolist(), (h * mask).sum(1) / mask.sum(1), strict=True):
                out[i] = v
        return nn.functional.normalize(torch.stack(out), dim=1)
