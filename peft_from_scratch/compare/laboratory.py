"""Train a method, score it, keep the run: one JSON line each, so that a sweep that was stopped goes on."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from ..assets import find_asset
from ..course.budget import Budget
from ..data import batches, encode, load_data
from ..measure import adapter_bytes, count, saved_bytes, static_bytes, step_flops
from ..models import load
from ..train import evaluate, fit

Method = Callable[[nn.Module], nn.Module]
KNOWN = ("minilm", "smollm2", "reviews", "imdb", "spam")  # models and data that come as wheels


@dataclass
class Run:
    """One method trained with one seed: `correct` is a string of 0 and 1 in the order of the test split."""

    method: str
    seed: int
    lr: float
    split: str
    accuracy: float
    log_loss: float
    seconds: float
    steps: int
    setting: str
    made_with: str
    correct: str


class Laboratory:
    """The data, encoded once, and the runs that were made with it, kept one JSON line each: a stopped demo goes on."""

    def __init__(self, methods: dict[str, Method], plan: Budget, epochs: int, out: Path):
        self.methods, self.plan, self.epochs = methods, plan, epochs
        out.mkdir(parents=True, exist_ok=True)
        model, tokenizer = load(plan.model)
        data = load_data(plan.data)
        self.pad = tokenizer.pad_token_id
        self.sets = {s: encode(data[s], tokenizer, plan.max_length) for s in ("train", "dev", "test")}
        self.sets["train"] = self.sets["train"][: plan.train_size]
        self.kept = out / "runs.jsonl"
        self.setting = f"{plan.model}, {plan.data}, {len(self.sets['train'])} x {epochs}, batch {plan.batch_size}"
        self.setting += f", {plan.max_length} tokens, {plan.device} {plan.amp}"

    def runs(self) -> list[Run]:
        """The finished runs of this setting; a line that was cut short is passed over."""
        found = []
        for line in self.kept.read_text().splitlines() if self.kept.exists() else []:
            try:
                found.append(Run(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return [run for run in found if run.setting == self.setting]

    def run(self, method: str, seed: int, lr: float, split: str) -> Run:
        """Train and score, unless that has been done."""
        for done in self.runs():
            if (done.method, done.seed, done.lr, done.split) == (method, seed, lr, split):
                return done
        plan = self.plan
        torch.manual_seed(seed)  # the adapters' start
        model = self.methods[method](load(plan.model, seed=seed)[0])
        history = fit(
            model,
            lambda epoch: batches(self.sets["train"], plan.batch_size, self.pad, shuffle_seed=1000 * seed + epoch),
            lr=lr, epochs=self.epochs, seed=seed, device=plan.device, amp=plan.amp, label=f"{method}, seed {seed}",
        )  # fmt: skip
        score = evaluate(model, batches(self.sets[split], 64, self.pad))
        bits = "".join(str(int(c)) for c in score.correct)
        figures = (score.accuracy, score.log_loss, history.seconds, history.steps)
        run = Run(method, seed, lr, split, *figures, self.setting, made_with(plan), bits)
        cut = self.kept.exists() and not self.kept.read_text().endswith("\n")  # a write that was stopped half way
        with self.kept.open("a") as f:
            f.write("\n" * cut + json.dumps(asdict(run)) + "\n")
        return run

    def costs(self, method: str) -> dict[str, float]:
        """What one training step costs, exactly: 16 texts of full length, attention written out in full."""
        plain = load(self.plan.model, attn_implementation="eager")[0]
        total, length = sum(p.numel() for p in plain.parameters()), self.plan.max_length
        ids = torch.arange(16 * length).reshape(16, length) % (plain.config.vocab_size - 5) + 5
        step = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(16) % 2}
        model = self.methods[method](plain)
        return {
            "numbers": count(model).trained,
            "total": total,
            "memory": static_bytes(model).total + saved_bytes(model, step),
            "flops": step_flops(model, step),
            "file": adapter_bytes(model),
        }


def made_with(plan: Budget) -> str:
    """What a figure depends on beside the setting: versions, and the wheels that model and data came in, by hash."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("peft-from-scratch", "torch", "transformers"))
    wheels = [f"{name} {find_asset(name).sha256[:12]}" for name in (plan.model, plan.data) if name in KNOWN]
    return ", ".join([libraries, *wheels, platform.machine()])
