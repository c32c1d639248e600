"""How long a 4-bit layer of 4096 x 4096 takes beside bitsandbytes', interleaved: `python tests/speed_4bit.py`.

On the CPU, a forward pass over 16 tokens in float32, NF4 with double quantisation. Below 1: ours is faster.
Not a test: these are times. With PFS_WRITE_RESULTS=1 the ratios are written to results/speed.json.
"""

import json
import os
from pathlib import Path

import bitsandbytes as bnb
import torch
from torch import nn

from peft_from_scratch.measure import interleaved_ratio
from peft_from_scratch.quant import to_4bit


def main():
    torch.manual_seed(0)
    plain, x = nn.Linear(4096, 4096, bias=False), torch.randn(16, 4096)
    theirs = bnb.nn.Linear4bit(4096, 4096, bias=False, quant_type="nf4", device="meta")
    theirs.weight = bnb.nn.Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
    ours, found = to_4bit(plain), {}
    for name, layer in {"4-bit layer, eager": ours, "4-bit layer, compiled": torch.compile(ours)}.items():
        ratio = interleaved_ratio(lambda layer=layer: layer(x), lambda: theirs(x), rounds=20)  # both in training mode
        found[name] = {k: round(getattr(ratio, k), 3) for k in ("minimum", "median", "low", "high")}
        print(f"{name:24s}", found[name], flush=True)
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        path = Path(__file__).parent.parent / "results" / "speed.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
