"""One batch whose rows use different adapters: one base product for all of them, then each adapter on its own rows.

    y = W x        y[i] += s_a B_a A_a x[i]      for the rows i of each LoRA a; rows of the base stay as they are

    with per_row(model, ["french", None, "german", "french"]):
        out = model(**batch)

A LoRA's change is added to a base product that all share. Any other method answers its rows by its own forward pass, so
that its base product is computed for few rows at a time. An adapter around a layer or a head can be split in this way;
one that is called with more than tensors of a row each (a soft prompt's body, a block with a cache), that mixes the
rows of a batch, or that was told about all of them in a `with` block, is refused. Trains nothing: a row's adapter is
not the one that `switch` lets train.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ..adapt import adapters, with_switches
from ..adapter import Adapter, Switch, sites
from ..methods.lowrank.alora import ALoRA
from ..methods.lowrank.lora import LoRA
from ..methods.mixture.lily import Lily
from ..methods.mixture.tasks import PerTask
from ..methods.mixture.xlora import XLoRA, XLoRABody
from ..methods.prompts.body import Body
from ..methods.representation.positions import AtPositions

KNOWS_THE_BATCH = (ALoRA, AtPositions, Body, Lily, PerTask, XLoRA, XLoRABody)
ON_ITS_OWN = "give its rows a batch of their own, after switch(model, name)"


@contextmanager
def per_row(model: nn.Module, names: Sequence[str | None], copies: int = 1) -> Iterator[nn.Module]:
    """Inside the block row i of a batch is answered by the adapters called names[i], heads included; None: the base.

    Rows of None are those of the base model on the same batch, bit for bit. A row of an adapter is what it would be
    alone, up to the rounding of products of another size. A site that lacks a name answers its rows by the base.
    `copies`: how many rows `generate` makes of each, its num_beams or num_return_sequences.
    The model is set for one batch at a time, as by `switch`, which is refused inside; what was active is so after it.
    ValueError for an unknown name or a method that does not go row by row; in the forward pass, for another number of
    rows, or heads of different sizes.
    """
    check(model, names, copies)
    model = with_switches(model)
    switches = [m for _, m in sites(model) if isinstance(m, Switch)]
    device = next(model.parameters()).device
    rows = {len(names) * c: rows_by_name(names, c, device) for c in (1, copies)}
    before = [site.by_row for site in switches]
    try:
        for site in switches:
            site.by_row = Rows(site, rows)
        yield model
    finally:
        for site, old in zip(switches, before, strict=True):
            site.by_row = old


def check(model: nn.Module, names: Sequence[str | None], copies: int) -> None:
    """ValueError for what `per_row` can refuse before anything is changed."""
    if not names or isinstance(names, str) or copies < 1:
        raise ValueError(f"give a list with a name or None for each row, and copies of at least 1, not {names!r}")
    known = {a.name for _, a in adapters(model)}
    if unknown := set(names) - known - {None}:
        raise ValueError(f"no adapter is called {sorted(unknown)[0]!r}: this model has {sorted(known)}")
    for _, a in adapters(model):
        if a.name in names and isinstance(a, KNOWS_THE_BATCH):
            raise ValueError(f"{type(a).__name__} does not answer a row by itself: {ON_ITS_OWN}")


def rows_by_name(names: Sequence[str | None], copies: int, device: torch.device) -> dict[str, Int[Tensor, " _"]]:
    """Where each adapter's rows are, when every row of the batch has become so many."""
    repeated = [name for name in names for _ in range(copies)]
    used = dict.fromkeys(name for name in names if name is not None)
    return {u: torch.tensor([i for i, n in enumerate(repeated) if n == u], device=device) for u in used}


class Rows:
    """Who answers which rows at one site: what its `Switch` calls instead of an active adapter."""

    def __init__(self, site: Switch, rows: dict[int, dict[str, Tensor]]):
        self.base, self.rows = site.base, rows
        used = next(iter(rows.values()))
        here: dict[str, Adapter] = {name: site.adapters[name] for name in used if name in site.adapters}
        self.loras = {name: a for name, a in here.items() if adds(a)}
        self.others = {name: a for name, a in here.items() if not adds(a)}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """y of all rows, in their order."""
        if not self.loras and not self.others:  # a site of other sets, whatever it is called with
            return self.base(*args, **kwargs)
        rows = self.find(args, kwargs)
        own = [(rows[name], a(*(t[rows[name]] for t in args))) for name, a in self.others.items()]
        if sum(len(i) for i, _ in own) == len(args[0]):  # no row needs the base product
            where, y = joined(own)
            return y[where.argsort()]
        y = self.base(*args)
        if self.loras:
            x = args[0]
            where, change = joined(
                [(rows[name], a.learned(a.dropout(x[rows[name]]))) for name, a in self.loras.items()]
            )
            y = y.index_add(0, where, change.to(y.dtype))
        if own:
            where, new = joined(own, like=y)
            y = y.index_copy(0, where, new.to(y.dtype))
        return y

    def find(self, args: tuple, kwargs: dict) -> dict[str, Tensor]:
        """The rows of each adapter in what the site is called with. ValueError where that has no such rows."""
        if kwargs or not args or not all(isinstance(t, Tensor) and t.dim() for t in args):
            kind = type(next(iter((self.loras | self.others).values()))).__name__
            raise ValueError(
                f"{kind} around {type(self.base).__name__} is not called with tensors alone, which could be split by "
                f"rows: {ON_ITS_OWN}"
            )
        sizes = {len(t) for t in args}
        if len(sizes) > 1 or not sizes <= self.rows.keys():
            raise ValueError(
                f"per_row has names for {' or '.join(map(str, self.rows))} rows, and {type(self.base).__name__} sees "
                f"{' and '.join(map(str, sorted(sizes)))}: give one name a row, with beams copies=num_beams, and no "
                "adapter inside another's module"
            )
        return {name: i.to(args[0].device) for name, i in self.rows[len(args[0])].items()}


def adds(adapter: Adapter) -> bool:
    """Is it y = base(x) + learned(x)? A subclass with another forward (DoRA) is asked for y itself."""
    return isinstance(adapter, LoRA) and type(adapter).forward is LoRA.forward


def joined(parts: list[tuple[Tensor, Any]], like: Any = None) -> tuple[Int[Tensor, " n"], Tensor]:
    """The parts' rows, and their values, as one tensor each. ValueError for values that are not alike, and `like`."""
    values = [value for _, value in parts] + ([] if like is None else [like])
    if not all(isinstance(value, Tensor) for value in values):
        raise ValueError(f"a module that returns more than one tensor cannot be split by rows: {ON_ITS_OWN}")
    shapes = {tuple(value.shape[1:]) for value in values}
    if len(shapes) > 1:
        raise ValueError(f"heads of different sizes cannot answer one batch, and here a row is one of {sorted(shapes)}")
    return torch.cat([rows for rows, _ in parts]), torch.cat([value for _, value in parts])
