"""How long a training step takes beside Hugging Face peft's, interleaved: `python tests/speed.py [METHOD ...]`.

MiniLM's shape with random weights, 16 texts of 64 tokens, forward + backward + AdamW. Below 1: ours is faster.
Not a test: these are times. With PFS_WRITE_RESULTS=1 the ratios are written to results/speed.json.
"""

import json
import os
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

from peft_from_scratch import LoRA, inject
from peft_from_scratch.measure import interleaved_ratio

TARGETS = ["query", "value"]
# method -> (our factory, peft's configuration)
METHODS = {"LoRA": (LoRA, lambda: LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))}


def minilm():
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    )


def stepper(model):
    """A function that does one training step."""
    ids = torch.randint(5, 30522, (16, 64), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(16) % 2}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    model.train()

    def step():
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


def main(names):
    found = {}
    for name in names or METHODS:
        factory, config = METHODS[name]
        ours = inject(minilm(), {rf".*\.({'|'.join(TARGETS)})": factory})
        ratio = interleaved_ratio(stepper(ours), stepper(get_peft_model(minilm(), config())), rounds=30)
        found[name] = {k: round(getattr(ratio, k), 3) for k in ("minimum", "median", "low", "high")}
        print(f"{name:20s}", found[name], flush=True)
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        path = Path(__file__).parent.parent / "results" / "speed.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
