"""The bug museum of lesson 02: faulty mechanisms really trained once, saved, and loaded again.

    PFS_CACHE=... PEFT_COURSE_MODE=cpu python tests/runs/lesson_02.py [OUT]

Writes results/lessons/02_museum.json (or OUT). The functions are the lesson's own references.
"""

import copy
import difflib
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

import peft_from_scratch
from peft_from_scratch import Replaced
from peft_from_scratch.check import lesson
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course.budget import budget
from peft_from_scratch.data import batches, encode, load_data
from peft_from_scratch.models import load
from peft_from_scratch.train import evaluate, fit

OUT = Path(__file__).parents[2] / "results" / "lessons" / "02_museum.json"
TRAIN, TEST = 1000, 500  # texts: an exhibit, not a measurement of the method
HEADS = (1, 2, 3, 4, 5)  # seeds of the head on the other machine
LOST = "only LoRA's names saved"
SHIPPED = {
    LOST: "huggingface/peft #577, #876, #602, UKPLab/sentence-transformers #3980",
    "a dot in setattr": "pytorch/pytorch #78109",
}


class LoRALinear(nn.Module):
    """As in the notebook."""

    def __init__(self, base: nn.Module, r: int = 8, alpha: float = 16):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(r, base.in_features) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / r

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T


TARGETS = {r".*\.attention\.self\.(query|value)": LoRALinear, "classifier": Replaced}


def references() -> dict:
    """The lesson's functions, as a learner would have written them."""
    space = {"torch": torch, "nn": nn, "re": re, "copy": copy, "difflib": difflib}
    for task in lesson("02").exercises:
        execute(task.reference, space, task.name)
    return space


def faulty_inject(old: str, new: str) -> Callable:
    """The reference of inject with one part of its text replaced."""
    source = {task.name: task.reference for task in lesson("02").exercises}["mechanism.inject"]
    assert old in source
    return execute(source.replace(old, new), references(), "faulty inject")["inject"]


def is_ours(name: str) -> bool:
    """The names of what adapters own: what such a script saves, whatever trains besides."""
    return name.endswith((".A", ".B")) or ".trained." in name


def main(out: Path) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    size = budget()
    data, (_, tokenizer) = load_data(size.data), load(size.model)
    train = batches(encode(data["train"], tokenizer, size.max_length)[: min(TRAIN, size.train_size)], size.batch_size,
                    tokenizer.pad_token_id, shuffle_seed=0)  # fmt: skip
    test = batches(encode(data["test"], tokenizer, size.max_length)[:TEST], 64, tokenizer.pad_token_id)
    right = references()["inject"]

    def learn(name: str, inject: Callable, lr: float) -> tuple[dict, dict[str, Tensor]]:
        torch.manual_seed(0)
        model = inject(load(size.model)[0], TARGETS)
        loss = fit(model, train, lr=lr, epochs=1, label=name).loss
        run = {"step": list(range(1, len(loss) + 1)), "loss": [round(x, 4) for x in loss]}
        run |= {"accuracy": per_cent(evaluate(model, test).accuracy), "lr": lr, "shipped": SHIPPED.get(name, "")}
        return run, {k: p.detach().clone() for k, p in model.named_parameters() if is_ours(k)}

    def reloaded(state: dict[str, Tensor], inject: Callable, seed: int) -> float:
        """The accuracy on another machine: a fresh base, a head from another seed, the state, strict=False."""
        other = inject(load(size.model, seed=seed)[0], TARGETS)
        other.load_state_dict(state, strict=False)
        return per_cent(evaluate(other, test).accuracy)

    whole, state = learn("right", right, 3e-3)
    runs = {"right": whole | {"reloaded": reloaded(state, right, 1)}}
    lora_only = {k: t for k, t in state.items() if k.endswith((".A", ".B"))}
    heads = [reloaded(lora_only, right, seed) for seed in HEADS]
    lost = {"reloaded": round(sum(heads) / len(heads), 2), "heads": heads, "shipped": SHIPPED[LOST]}
    runs[LOST] = whole | lost
    for name, (old, new), lr in (("never frozen", ("freeze(model)", "pass"), 1e-4),
                                 ("a dot in setattr", ("model.set_submodule(", "setattr(model, "), 3e-3)):  # fmt: skip
        inject = faulty_inject(old, new)
        run, state = learn(name, inject, lr)
        runs[name] = run | {"reloaded": reloaded(state, inject, 1)}
        print(name, runs[name]["accuracy"], runs[name]["reloaded"])
    text = json.dumps({"runs": runs, "provenance": provenance(size)}, indent=1, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_suffix(".part")
    beside.write_text(re.sub(r"\n\s+([\d.]+,?)(?=\n)", r" \1", text) + "\n")  # one line a list of numbers
    os.replace(beside, out)


def per_cent(share: float) -> float:
    return round(100 * share, 2)


def provenance(size) -> dict:
    return {
        "made by": "tests/runs/lesson_02.py", "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "package": peft_from_scratch.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
        "model": size.model, "data": size.data, "train": min(TRAIN, size.train_size), "test": TEST, "seed": 0,
        "device": f"CPU {platform.machine()}, {torch.get_num_threads()} threads",
    }  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
