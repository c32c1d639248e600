"""Which parameters train, which are frozen, which are saved: one line a kind of site, with counts."""

import re
from collections import Counter

from torch import nn

from .adapt import adapters, trained
from .adapter import Switch, base_parameters, sites


def describe(model: nn.Module) -> None:
    """Print what trains, what is frozen and what is saved."""
    moving = {id(p) for p in trained(model).values()}
    frozen = sum(p.numel() for p in base_parameters(model).values() if not p.requires_grad)
    in_place = {k: p for k, p in base_parameters(model).items() if p.requires_grad}
    several = any(isinstance(m, Switch) for _, m in sites(model))

    count, trains, saved = Counter(), Counter(), Counter()
    for site, adapter in adapters(model):
        kind = re.sub(r"\b\d+\b", "*", site) or "(the model itself)"
        what = f"{type(adapter).__name__}({adapter.extra_repr()})" + (f" {adapter.name!r}" if several else "")
        own = adapter.own_state().values()
        count[kind, what] += 1
        saved[kind, what] += sum(t.numel() for t in own)
        trains[kind, what] += sum(t.numel() for t in own if id(t) in moving)
    if in_place:
        numbers = sum(p.numel() for p in in_place.values())
        count["(base parameters)", "in place"] = len(in_place)
        trains["(base parameters)", "in place"] = saved["(base parameters)", "in place"] = numbers

    rows = [
        (kind, what, f"x{count[kind, what]}", *(f"{c[kind, what]:,}" for c in (trains, saved))) for kind, what in count
    ]
    rows = [("site", "adapter", "", "trains", "saved"), *rows]
    wide = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print(
            "  ".join(
                text.ljust(w) if i < 2 else text.rjust(w) for i, (text, w) in enumerate(zip(row, wide, strict=True))
            )
        )
    total = frozen + sum(saved.values())
    print(
        f"\ntrains {sum(trains.values()):,} of {total:,} numbers ({sum(trains.values()) / total:.3%}); "
        f"frozen {total - sum(trains.values()):,}; saved {sum(saved.values()):,}"
    )
    if several:
        print("active:", next((m.active for _, m in sites(model) if isinstance(m, Switch)), None))
