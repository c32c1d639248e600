"""Language models: the loss of what is to be written, exact match for short answers, and what is forgotten.

Loss: nats a token, averaged over an item's tokens, then over items. Exact match needs no generation: greedy decoding
writes the reference exactly if every token of it, given those before, is the most probable one.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..data import batches, encode_answers, encode_blocks, load_data
from ..data.collate import IGNORED
from ..models import load
from ..training.running import device_of, inputs, mode
from .bench import Baseline, Bench, Score
from .tasks import ANSWERS

OTHER_BLOCKS = 32  # blocks of the corpus on which forgetting is measured
SHOTS = (4, 8)


class Language(Bench):
    """Answers (labels on the answer alone) or blocks of running text."""

    load_as = "generate"

    def __init__(self, task):
        super().__init__(task)
        self.other = encode_blocks(load_data(task.other)["test"], self.tokenizer, task.length, OTHER_BLOCKS)

    def encode(self, rows) -> list[dict]:
        task = self.task
        if task.kind == ANSWERS:
            whole = encode_answers(rows, self.tokenizer, 4 * task.length)
            return [row for row in whole if len(row["input_ids"]) <= task.length]  # no answer loses its end
        return encode_blocks(rows, self.tokenizer, task.length, max(task.train, task.dev, task.test))

    def score(self, model: nn.Module, split: str) -> Score:
        return self.scored(model, self.sets[split])

    def scored(self, model: nn.Module, rows: list[dict]) -> Score:
        loss, exact = self.each(model, rows)
        metrics = {"log_loss": loss.mean().item(), "other_loss": self.each(model, self.other)[0].mean().item()}
        bits = ""
        if self.task.exact:
            metrics["exact_match"] = exact.double().mean().item()
            bits = "".join(str(int(e)) for e in exact)
        return Score(metrics, [round(x, 4) for x in loss.tolist()], bits)

    def each(self, model: nn.Module, rows: list[dict]) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """For each row, the mean loss of its labels, and whether each of them is the most probable token."""
        loss, exact, device = torch.empty(len(rows)), torch.empty(len(rows), dtype=torch.bool), device_of(model)
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.task.amp)
        amp = torch.autocast(device.type, kind, enabled=kind is not None)
        with mode(model, False), torch.inference_mode(), amp:
            for batch in batches(rows, 8, self.pad):
                given = inputs(batch, device)
                labels = given.pop("labels")[:, 1:]
                logits = model(**given, use_cache=False).logits[:, :-1].float()
                told = labels != IGNORED
                each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
                loss[batch["index"]] = (each.sum(1) / told.sum(1)).cpu()
                exact[batch["index"]] = ((logits.argmax(-1) == labels) | ~told).all(1).cpu()
        return loss, exact

    def baselines(self) -> Iterator[Baseline]:
        yield Baseline("zero-shot", "the model as it comes", lambda: self.in_context(0))
        if self.task.kind == ANSWERS:
            for shots in SHOTS:
                note = f"{shots} training examples before each question, the model as it comes"
                yield Baseline(f"{shots}-shot", note, lambda shots=shots: self.in_context(shots))

    def in_context(self, shots: int) -> Score:
        """The untrained model, each test row behind the same few training rows in the chat form."""
        before = [i for row in self.training_rows(0)[:shots] for i in row["input_ids"]]
        rows = [
            {"input_ids": before + row["input_ids"], "labels": [IGNORED] * len(before) + row["labels"]}
            for row in self.sets["test"]
        ]
        model = load(self.task.model, "generate")[0].to(self.task.device)
        return self.scored(model, rows)
