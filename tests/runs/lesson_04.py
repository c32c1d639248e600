"""Lesson 04's saved runs: `python tests/runs/lesson_04.py truncation|museum` writes results/lessons/04_*.json.

MiniLM on 2,000 film reviews, one pass, scored on 1,000 test reviews; a few minutes each on two CPU cores.
"""

import copy
import json
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from peft_from_scratch import LoRA, Replaced, full, inject, merge
from peft_from_scratch.compare.provenance import provenance
from peft_from_scratch.data import batches, encode, load_data
from peft_from_scratch.methods.lowrank.lora import Start, uniform
from peft_from_scratch.models import load
from peft_from_scratch.train import evaluate, fit

FOLDER = Path(__file__).parents[2] / "results" / "lessons"
RANKS = [0, 1, 2, 4, 8, 16, 64]
SETTING = "minilm, 2,000 reviews, 125 steps of 16 x 64, seed 0, 1,000 test reviews"


def texts(count=2000, test=1000):
    """Batches to train on, and to score on."""
    data, tokenizer = load_data("reviews"), load("minilm")[1]
    train, exam = (encode(data[split], tokenizer, 64)[:n] for split, n in (("train", count), ("test", test)))
    return batches(train, 16, tokenizer.pad_token_id, shuffle_seed=0), batches(exam, 64, tokenizer.pad_token_id)


def keep(name, found, setting=SETTING):
    found = {"setting": setting, "provenance": provenance("minilm", "reviews", "cpu"), **found}
    FOLDER.mkdir(parents=True, exist_ok=True)
    beside = FOLDER / f"{name}.part"
    beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")


def linear_layers(model):
    return {name: m for name, m in model.base_model.encoder.named_modules() if isinstance(m, nn.Linear)}


@torch.no_grad()
def truncation():
    """How much energy the top ranks of full fine-tuning's change hold, and how much accuracy they carry."""
    lessons, exam = texts()
    before, tuned = load("minilm")[0], full(load("minilm")[0])
    with torch.enable_grad():
        fit(tuned, lessons, lr=1e-4, label="full")
    whole = 100 * evaluate(tuned, exam).accuracy
    start = linear_layers(before)
    parts = {name: torch.linalg.svd(m.weight - start[name].weight, full_matrices=False)
             for name, m in linear_layers(tuned).items()}  # fmt: skip

    def scored(kept):
        model = copy.deepcopy(tuned)
        for name, m in linear_layers(model).items():
            U, S, Vh = parts[name]
            m.weight.copy_(start[name].weight + U[:, kept] * S[kept] @ Vh[kept])
        return 100 * evaluate(model, exam).accuracy

    squares = torch.stack([S.square() for _, S, _ in parts.values()])
    shares = squares.cumsum(1) / squares.sum(1, keepdim=True)
    needed = ((shares < 0.9).sum(1) + 1).sort().values
    curve = {"ranks": RANKS, "full": whole, "dropped": scored(slice(8, None)),
             "energy": [100 * shares[:, r - 1].median().item() if r else 0.0 for r in RANKS],
             "accuracy": [scored(slice(r)) for r in RANKS]}  # fmt: skip
    found = {"matrices": len(parts), "rank_for_90": {"median": needed.median().item(), "least": needed[0].item(),
                                                     "most": needed[-1].item(), "of": squares.shape[1]}}  # fmt: skip
    keep("04_truncation", found | {"curve": curve})


class Swapped(LoRA):
    """A B instead of B A: runs, because query and value are square."""

    def learned(self, x):
        return self.scale * x @ self.B @ self.A


def both_zero(base, rank, scale):
    A, B, _ = uniform(base, rank, scale)
    return Start(torch.zeros_like(A), torch.zeros_like(B))


FAULTS = {
    "as it should be": (partial(LoRA, rank=8, alpha=16), ""),
    "α not divided by r": (partial(LoRA, rank=8, alpha=8 * 16), "rasbt/LLMs-from-scratch #821, Blaizzy/mlx-vlm #845"),
    "A and B both zero": (
        partial(LoRA, rank=8, alpha=16, start=both_zero),
        "Lightning-AI/litgpt #1229, nvidia-cosmos/cosmos-predict2.5 #15",
    ),
    "A B instead of B A": (partial(Swapped, rank=8, alpha=16), "microsoft/LoRA #61, paiml/aprender #2138"),
    "no gradient behind a checkpoint": (partial(LoRA, rank=8, alpha=16), "huggingface/transformers #26221 and #21381"),
}


def museum():
    """Each fault trained once: its losses, its accuracy, and its accuracy once merged."""
    lessons, exam = texts()
    runs = {}
    for name, (make, where) in FAULTS.items():
        torch.manual_seed(0)
        model = inject(load("minilm")[0], {r".*\.(query|value)": make, "classifier": Replaced})
        if "checkpoint" in name:
            for block in model.base_model.encoder.layer:
                block.gradient_checkpointing = True
                block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "None of the inputs|.*received no gradient")
            loss = fit(model, lessons, lr=3e-3, label=name).loss
        means = [sum(loss[i : i + 5]) / len(loss[i : i + 5]) for i in range(0, len(loss), 5)]
        scores = {key: 100 * evaluate(m, exam).accuracy for key, m in (("accuracy", model), ("merged", merge(model)))}
        step = [min(i + 5, len(loss)) for i in range(0, len(loss), 5)]
        runs[name] = {"step": step, "loss": [round(each, 4) for each in means], **scores, "shipped": where}
        keep(
            "04_museum",
            {"runs": runs},
            SETTING + "; LoRA r = 8, α = 16 on query and value; losses are means of 5 steps",
        )


if __name__ == "__main__":
    {"truncation": truncation, "museum": museum}[sys.argv[1]]()
