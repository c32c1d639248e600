"""`python -m peft_from_scratch cost`: what a training step costs, predicted without weights; `--measure` does it too.

    cost --model llama-7b --method LoRA --batch 1 --length 512 --dtype nf4 --checkpointing
    cost --model minilm --method full,LoRA --measure
    cost --model some/folder --method HiRA --targets all-linear --set rank=16

Weights, FLOPs and bytes are those of the package's own code, run on the meta device: operations without numbers.
"""

import argparse
import json
import os
from collections.abc import Callable

import torch
from torch import nn

from .adapt import trained
from .compare.contestants import CONTESTANTS
from .measure.chosen import full_batch, method_called, settings_of
from .measure.costs import Cost, measured, predicted
from .measure.meta import DEVICES, as_on
from .measure.shapes import SHAPES, config_of, random_model
from .optim.checkpointing import checkpoint_blocks
from .quant import quantize_
from .training.running import Batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "nf4": torch.bfloat16}
OPTIMIZERS = {
    "adamw": None,  # as `fit` makes it
    "momentum": lambda model, lr: torch.optim.SGD(trained(model).values(), lr, momentum=0.9),
    "sgd": lambda model, lr: torch.optim.SGD(trained(model).values(), lr),
}
ROWS = (
    ("numbers in all", "total", ""), ("trained", "trained", ""), ("in the file", "saved", ""),
    ("forward", "forward", "FLOP"), ("step", "step", "FLOP"),
    ("weights", "weights", "B"), ("gradients", "gradients", "B"), ("optimiser state", "optimizer", "B"),
    ("saved for backward", "activations", "B"), ("temporary", "temporary", "B"), ("peak", "peak", "B"),
    ("file", "file", "B"),
)  # fmt: skip
NOTE = "peak = weights + optimiser state + batch + saved for backward + temporary (gradients made so far included)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="minilm", help=f"a folder with a config.json, or one of {', '.join(SHAPES)}")
    add("--method", default="full,LoRA", help=f"with commas: {', '.join(CONTESTANTS)}; or the class of any page")
    add("--targets", default="all-linear", help="where the class of a page goes: a regular expression, or all-linear")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of that class, such as rank=16")
    add("--task", choices=("classify", "generate"), help="default: an encoder classifies, any other model generates")
    add("--batch", type=int, default=16)
    add("--length", type=int, default=64)
    add("--dtype", default="float32", choices=DTYPES, help="of the base; nf4: linear layers in 4 bits, rest bfloat16")
    add("--attention", default="sdpa", choices=("sdpa", "eager"))
    add("--checkpointing", action="store_true", help="keep each block's input only, and compute the block again")
    add("--optimizer", default="adamw", choices=OPTIMIZERS, help="where the method has none of its own")
    add("--device", default="cpu", choices=DEVICES, help="whose kernels to predict, and where to measure")
    add("--measure", action="store_true", help="build the model with random weights and measure a step as well")
    add("--json", action="store_true", help="print exact numbers, one JSON line a method")


def run(args: argparse.Namespace) -> int:
    columns: dict[str, Cost] = {}
    try:
        for name in filter(None, (word.strip() for word in args.method.split(","))):
            columns[name] = one_cost(args, name, "meta")
            if args.measure:
                refuse_too_large(columns[name], args.device)
                columns[f"{name}, measured"] = one_cost(args, name, args.device)
    except (ValueError, TypeError, NotImplementedError) as error:
        print(error)
        return 2
    if args.json:
        for name, cost in columns.items():
            print(json.dumps({"method": name} | cost._asdict() | {"temporary": cost.temporary}))
    else:
        print(f"{args.model}, batch {args.batch} x {args.length}, {args.dtype}, {args.attention}, as on {args.device}")
        show(columns)
    return 0


def one_cost(args: argparse.Namespace, name: str, device: str) -> Cost:
    """Predicted on "meta", measured anywhere else. ValueError for what cannot be."""
    if args.batch < 1 or args.length < 1:
        raise ValueError(f"batch and length must be at least 1, not {args.batch} and {args.length}")
    change, fit = method_called(name, args.targets, settings_of(args.set))
    config = config_of(args.model, args.attention)
    longest = getattr(config, "max_position_embeddings", None) or args.length
    longest -= 2 * (config.model_type == "roberta")  # its first two places are for padding
    if args.length > longest:
        raise ValueError(f"{args.model} takes at most {longest} tokens, not {args.length}")
    with torch.device(device), as_on(args.device), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = random_model(config, args.task, DTYPES[args.dtype])
        batch = full_batch(model, args.batch, args.length, device)
        model = adapted(model, batch, name, change, args)
        optimizer = fit(model, 100).get("optimizer") or OPTIMIZERS[args.optimizer]
        if device == "meta":
            return predicted(model, batch, args.device, optimizer)
    return measured(model, batch, optimizer)


def adapted(model: nn.Module, batch: Batch, name: str, change: Callable, args: argparse.Namespace) -> nn.Module:
    try:
        if args.dtype == "nf4":
            model = quantize_(model)
        model = change(model, [batch])
    except (RuntimeError, NotImplementedError) as error:
        if batch["input_ids"].is_meta and "meta" in str(error):
            words = f"{name} decides by the numbers of its weights or data, so it is not to be predicted"
            raise ValueError(words) from None
        raise
    return checkpoint_blocks(model) if args.checkpointing else model


def refuse_too_large(cost: Cost, device: str) -> None:
    """ValueError before a measurement that the machine cannot hold."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("there is no GPU to measure on: leave --measure away, or take --device cpu")
        room = torch.cuda.mem_get_info()[0]
    else:
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else cost.peak
    if cost.peak > room:
        words = f"a step needs {human(cost.peak, 'B')} and there are {human(room, 'B')}"
        raise ValueError(f"{words}: measure with a smaller batch or model, or only predict")


def show(columns: dict[str, Cost]) -> None:
    table = [["", *columns]]
    table += [[label, *(human(getattr(c, field), unit) for c in columns.values())] for label, field, unit in ROWS]
    wide = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *cells in table:
        print("  ".join([first.ljust(wide[0]), *(c.rjust(w) for c, w in zip(cells, wide[1:], strict=True))]))
    print(NOTE)


def human(n: float, unit: str) -> str:
    """Five digits and a decimal prefix (1 GB is 10⁹ B)."""
    if not unit:
        return f"{n:,}"
    power = min((len(str(abs(int(n)))) - 1) // 3, 6)
    return f"{n / 1000**power:.5g} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}"
