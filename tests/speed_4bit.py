"""How long a 4-bit layer of 4096 x 4096 takes beside bitsandbytes', interleaved: `python tests/speed_4bit.py`.

On the CPU, forward over 1, 16 and 512 rows in float32, NF4 with double quantisation; both make the weight again and
multiply. Below 1: ours is faster. Not a test: these are times. With PFS_WRITE_RESULTS=1 they are written to
results/speed_4bit.json.
"""

import json
import os
import platform
from pathlib import Path

import bitsandbytes as bnb
import torch
from torch import nn

from peft_from_scratch.measure import TimeRatio, interleaved_ratio
from peft_from_scratch.quant import to_4bit

WIDTH, ROWS, ROUNDS = 4096, (1, 16, 512), 20


def layers() -> dict[str, nn.Module]:
    """The same weight in bitsandbytes' layer and in ours."""
    torch.manual_seed(0)
    plain = nn.Linear(WIDTH, WIDTH, bias=False)
    theirs = bnb.nn.Linear4bit(WIDTH, WIDTH, bias=False, quant_type="nf4", device="meta")
    theirs.weight = bnb.nn.Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
    ours = to_4bit(plain)
    return {"bitsandbytes": theirs, "eager": ours, "compiled": torch.compile(ours, dynamic=False)}


def told(ratio: TimeRatio) -> dict[str, float]:
    found = {k: round(getattr(ratio, k), 3) for k in ("minimum", "median", "low", "high")}
    return found | {"ms": round(1e3 * ratio.seconds_a, 1), "ms_bitsandbytes": round(1e3 * ratio.seconds_b, 1)}


def main() -> None:
    made, found = layers(), {}
    theirs = made.pop("bitsandbytes")  # in training mode, as ours: in eval mode it may compute in bfloat16
    for rows in ROWS:
        x = torch.randn(rows, WIDTH)
        for name, layer in made.items():
            ratio = interleaved_ratio(lambda layer=layer, x=x: layer(x), lambda x=x: theirs(x), ROUNDS)
            found[f"{name}, {rows} rows"] = told(ratio)
            print(f"{name:10s}{rows:4d} rows", told(ratio), flush=True)
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        libraries = {"torch": torch.__version__, "bitsandbytes": bnb.__version__, "machine": platform.machine()}
        settings = {"width": WIDTH, "rounds": ROUNDS, "threads": torch.get_num_threads()}
        settings["load"] = round(os.getloadavg()[0], 1)  # above the number of cores: others ran beside it
        path = Path(__file__).parent.parent / "results" / "speed_4bit.json"
        path.write_text(json.dumps(libraries | settings | {"ratio": found}, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
