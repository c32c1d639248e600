"""What it costs that the rows of a batch use different adapters, and to change a set: `python tests/speed_batch.py`.

MiniLM's shape with random weights on the CPU, LoRA on query and value, 32 texts of 64 tokens, forward, eval mode. Each
batch of mixed rows takes turns with the same batch under one adapter; the ratio is mixed over one. A swap is a file of
one set read into the place of another, in seconds. Not a test: these are times. With PFS_WRITE_RESULTS=1 they are
written to results/speed_batch.json.
"""

import json
import os
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from peft_from_scratch import LoRA, inject, load_adapter, remove, save_adapter, switch, trained
from peft_from_scratch.combine.beside import load_beside
from peft_from_scratch.combine.rows import per_row
from peft_from_scratch.measure import interleaved_ratio
from peft_from_scratch.methods.rotation.oft import OFT

ROWS, TOKENS, SETS, ROUNDS = 32, 64, 8, 25
QV = r".*\.(query|value)"


def with_sets(factory):
    """The model with so many trained sets: t0, t1, ..."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    ).eval()
    for i in range(SETS):
        model = inject(model, {QV: factory}, name=f"t{i}")
        with torch.no_grad():
            for p in trained(model).values():
                p.add_(0.05 * torch.randn_like(p))
    return switch(model, "t0")


def ratio(model, names):
    """Rows called `names` against all rows under t0."""
    ids = torch.randint(5, 30522, (ROWS, TOKENS))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def mixed():
        with per_row(model, names):
            return model(**given)

    found = interleaved_ratio(mixed, lambda: model(**given), rounds=ROUNDS)
    return {k: round(getattr(found, k), 3) for k in ("minimum", "median", "low", "high")}


def swaps(model):
    """A file in the place of a set, and beside it with the new one dropped again."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_adapter(model, Path(folder) / "t1.safetensors", "t1")

        def beside():
            remove(load_beside(model, path, "new", like="t0"), "new")

        found = interleaved_ratio(lambda: load_adapter(model, path, "t0"), beside, rounds=ROUNDS)
    return {"in its place": round(found.seconds_a, 4), "beside, and dropped": round(found.seconds_b, 4)}


def main():
    found = {}
    names = [f"t{i % SETS}" for i in range(ROWS)]
    half = [name if i % 2 else None for i, name in enumerate(names)]
    lora, oft = with_sets(LoRA), with_sets(lambda base: OFT(base, block_size=32))
    for what, model, rows in [
        ("LoRA, 8 adapters", lora, names),
        ("LoRA, 4 adapters and as many base rows", lora, half),
        ("OFT, 8 adapters", oft, names),
        ("OFT, 4 adapters and as many base rows", oft, half),
    ]:
        found[what] = ratio(model, rows)
        print(f"{what:42s}", found[what], flush=True)
    found["seconds of a swap (LoRA, 12 sites)"] = swaps(lora)
    print(found["seconds of a swap (LoRA, 12 sites)"])
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        path = Path(__file__).parent.parent / "results" / "speed_batch.json"
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
