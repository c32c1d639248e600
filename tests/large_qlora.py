"""QLoRA on a model too large to hold in 16 bits: peak memory and tokens a second, beside what the bytes predict.

    python tests/large_qlora.py --shape tiny            anywhere
    python tests/large_qlora.py --shape 7b              on a GPU, under 8 GB
    python tests/large_qlora.py --shape 65b             on a GPU, under 48 GB

A Llama of that shape with random weights: times and bytes do not depend on what the weights are. It is made without
data, then each layer gets its packed bytes on the device, so that no 16-bit copy of the whole ever exists. Steps of
batch 1 x 512 with gradient checkpointing, LoRA on all linear layers, AdamW. Without a GPU the large shapes are counted
only, on tensors without data. With PFS_WRITE_RESULTS=1 what was measured goes to results/large_qlora.json.
"""

import argparse
import json
import os
import time
import weakref
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig

from peft_from_scratch import LoRA, inject, trained
from peft_from_scratch.layers import is_4bit
from peft_from_scratch.measure import count, packed, static_bytes, sync
from peft_from_scratch.methods.parts import layers_at
from peft_from_scratch.quant import Linear4bit, Stored
from peft_from_scratch.quant.double import BLOCK
from peft_from_scratch.quant.replace import put

# width, inner width, layers, heads, vocabulary; and the bytes that a training run may take
SHAPES = {
    "tiny": ((128, 344, 2, 4, 1000), None),
    "7b": ((4096, 11008, 32, 32, 32000), 8_000_000_000),
    "65b": ((8192, 22016, 80, 64, 32000), 48_000_000_000),
}
STD = 0.02  # of the weights
NF4_STD = 0.55  # of NF4's values, each as often as the others


def plain_model(shape: str, device: torch.device) -> nn.Module:
    """A Llama in bfloat16 without linear weights: these stay on meta; what is not linear is on the device."""
    width, inner, layers, heads, words = SHAPES[shape][0]
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        vocab_size=words, max_position_embeddings=2048, use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    linear = set(layers_at(model, "all-linear"))
    for module in model.modules():
        if module not in linear and module._parameters:
            W = torch.ones(module.weight.shape, dtype=torch.bfloat16, device=device)
            module.weight = nn.Parameter(W.normal_(std=STD) if W.dim() == 2 else W)
    with device:  # what it holds is computed where it is made
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


def packed_layer(layer: nn.Linear, device: torch.device, block: int = 64) -> Linear4bit:
    """Random bytes, and constants that give the weights about the deviation STD."""
    n = layer.weight.numel()
    blocks = -(-n // block)
    stored = Stored(
        torch.randint(256, (-(-n // 2), 1), dtype=torch.uint8, device=device),
        torch.randint(256, (blocks,), dtype=torch.uint8, device=device),
        torch.full((-(-blocks // BLOCK),), 0.1 * STD, device=device),
        torch.full((), STD / NF4_STD, device=device),
    )
    return Linear4bit(stored, tuple(layer.weight.shape), None, block=block, dtype=layer.weight.dtype)


def qlora_model(shape: str, rank: int, device: torch.device) -> nn.Module:
    """The model, adapted, as it trains."""
    model = plain_model(shape, device)
    for layer in layers_at(model, "all-linear"):
        put(model, layer, packed_layer(layer, device))
    sites = tuple(name.replace(".", r"\.") for name, m in model.named_modules() if is_4bit(m))
    model = inject(model, {sites: partial(LoRA, rank=rank, alpha=16)}).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def steps(model: nn.Module, length: int, n: int, device: torch.device) -> list[float]:
    """Seconds of each of n training steps on random tokens."""
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-4)
    ids = torch.randint(model.config.vocab_size, (1, length), device=device)
    taken = []
    for _ in range(n):
        sync()
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        sync()
        taken.append(time.perf_counter() - start)
    return taken


class Counter(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, and remembers the most that were alive at once.

    What an operation takes for itself while it runs is not seen.
    """

    def __init__(self):
        super().__init__()
        self.alive: dict[weakref.ref, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and not t.is_meta:
                self.see(t.untyped_storage())
        return out

    def see(self, storage: torch.UntypedStorage) -> None:
        key = weakref.ref(storage, self.gone)
        if key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def gone(self, key: weakref.ref) -> None:
        self.now -= self.alive.pop(key)


def predicted(shape: str, rank: int, length: int) -> dict[str, int]:
    """What is there from the first step to the last, and the peak of two steps (the second has the optimiser's states),
    counted on tensors without data."""
    device = torch.device("cpu")
    with FakeTensorMode(), Counter() as counter:
        model = qlora_model(shape, rank, device)
        steps(model, length, 2, device)
        return {"predicted_static": static_bytes(model).total, "predicted_peak": counter.peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="QLoRA's memory and speed on a large Llama with random weights.")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps must be at least 2: the first one is a warm-up and is not timed")
    limit, gpu = SHAPES[args.shape][1], torch.cuda.is_available()
    found = {"rank": args.rank, "length": args.length, "limit": limit}
    found |= predicted(args.shape, args.rank, args.length)
    if gpu or not limit:
        found |= measured(args, torch.device("cuda" if gpu else "cpu"))
    for key, value in found.items():
        print(f"{key:16s} {value:,}" if isinstance(value, int | float) else f"{key:16s} {value}")
    if not gpu and limit:
        raise SystemExit(f"no GPU: the shape {args.shape} was counted, not run. Run this on a machine with one.")
    if limit and found["peak"] > limit:
        raise SystemExit(f"the peak is above the {limit / 1e9:.0f} GB that this shape may take")
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        path = Path(__file__).parent.parent / "results" / "large_qlora.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(kept | {args.shape: found}, indent=1) + "\n")


def measured(args: argparse.Namespace, device: torch.device) -> dict:
    """Run the steps: the peak that the device's allocator saw (on a CPU, what Counter saw) and tokens a second."""
    torch.manual_seed(0)
    with Counter() as counter:
        model = qlora_model(args.shape, args.rank, device)
        steps(model, args.length, 2, device)
    seconds = sorted(steps(model, args.length, args.steps, device)[1:])
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else counter.peak
    four = packed(model)
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "numbers": count(model).total,
        "trained": count(model).trained,
        "bits_a_weight": round(8 * four.bytes / four.numbers, 3),
        "static": static_bytes(model).total,
        "peak": peak,
        "tokens_a_second": round(args.length / seconds[len(seconds) // 2], 1),
    }


if __name__ == "__main__":
    main()
