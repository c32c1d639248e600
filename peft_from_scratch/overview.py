"""Which parameters train, which are frozen, which are saved: one line a kind of site, with counts."""

import re
from collections import Counter
from typing import NamedTuple

from torch import nn

from .adapt import adapters, owned
from .adapter import Adapter, Switch, base_parameters, sites
from .layers import is_4bit

IN_PLACE = ("(base parameters)", "in place")


class Packed(NamedTuple):
    """What 4-bit layers hold: `numbers` weights, in `bytes` of indices and constants."""

    numbers: int
    bytes: int


def packed(model: nn.Module) -> Packed:
    """The weights in 4-bit layers. They are no parameters: a sum over `model.parameters()` takes them for nothing."""
    layers = [module for module in model.modules() if is_4bit(module)]
    return Packed(sum(m.in_features * m.out_features for m in layers), sum(m.stored_bytes() for m in layers))


def describe(model: nn.Module) -> None:
    """Print what trains, what is frozen and what is saved."""
    active = [m.active for _, m in sites(model) if isinstance(m, Switch)]
    count, trains, saved = tally(model, several=bool(active))
    rows = [("site", "adapter", "", "trains", "saved")]
    rows += [(*kind, f"x{count[kind]}", f"{trains[kind]:,}", f"{saved[kind]:,}") for kind in count]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        words = [text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(row, wide, strict=True))]
        print("  ".join(words))
    four = packed(model)
    frozen = four.numbers + sum(p.numel() for p in base_parameters(model).values() if not p.requires_grad)
    training, total = sum(trains.values()), frozen + sum(saved.values())
    share = f"{training:,} of {total:,} numbers ({training / total:.3%})"
    print(f"\ntrains {share}; frozen {total - training:,}; saved {sum(saved.values()):,}")
    if four.numbers:
        each = f"{8 * four.bytes / four.numbers:.3f} bits each"
        print(f"of the frozen, {four.numbers:,} are in 4-bit layers: {four.bytes:,} bytes, {each}")
    if active:
        print("active:", active[0])


def tally(model: nn.Module, several: bool) -> tuple[Counter, Counter, Counter]:
    """For each kind of site and adapter: how many there are, how many numbers train, how many are saved."""
    count, trains, saved = Counter(), Counter(), Counter()

    def kind(site: str, adapter: Adapter) -> tuple[str, str]:
        words = f"{type(adapter).__name__}({adapter.extra_repr()})" + (f" {adapter.name!r}" if several else "")
        return re.sub(r"\b\d+\b", "*", site) or "(the model itself)", words

    for site, adapter in adapters(model):
        count[kind(site, adapter)] += 1
    for site, adapter, _, tensor in owned(model):
        saved[kind(site, adapter)] += tensor.numel()
        trains[kind(site, adapter)] += tensor.numel() * tensor.requires_grad
    in_place = [p for p in base_parameters(model).values() if p.requires_grad]
    if in_place:
        count[IN_PLACE] = len(in_place)
        trains[IN_PLACE] = saved[IN_PLACE] = sum(p.numel() for p in in_place)
    return count, trains, saved
