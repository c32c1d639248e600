"""Hot swap: a file of a trained set into a model that is already running, its base untouched.

    load_adapter(model, "b.safetensors", "a")               # B's numbers in the place of A's
    load_beside(model, "b.safetensors", "b", like="a")      # B beside A, which goes on answering
    switch(model, "b")                                      # the next request is B's; or per_row: see rows.py
    remove(model, "a")

Both take all of a file or nothing, and refuse one whose settings (rank, alpha, ...) are not those of `a`: for such a
set call inject(model, targets, name="b") and load_adapter, then switch to whom should answer. Nothing is trained.
"""

import copy
import os

from torch import Tensor, nn

from ..adapt import adapters, remove, with_switches
from ..adapter import Adapter, Switch, base_parameters, plain, sites
from ..state import load_adapter


def load_beside(
    model: nn.Module, source: dict[str, Tensor] | str | os.PathLike, name: str, like: str | None = None
) -> nn.Module:
    """A set of adapters called `name`, built like the set `like` (the only one, if None) and filled from `source`.

    It is not active yet: what answers now still does. ValueError for a name that is taken, an unknown `like`, or a file
    of other settings; KeyError for missing or extra tensors. The model then answers and is named as it was.
    """
    known = sorted({a.name for _, a in adapters(model)})
    like = known[0] if like is None and len(known) == 1 else like
    if like not in known:
        raise ValueError(f"say with like= which set the new one resembles: this model has {known}")
    if not name or "." in name or name in known:
        raise ValueError(f"the name {name!r} must be new, not empty and without a dot: this model has {known}")
    model = with_switches(model)
    for site, adapter in copies(model, like).items():
        adapter.name = name
        site.adapters[name] = adapter
        if like in site.asleep:  # it is a copy of a set that does not train at the moment
            site.asleep[name] = list(site.asleep[like])
        site.activate(site.active)
    try:
        return load_adapter(model, source, name)
    except Exception:
        remove(model, name)
        raise


def copies(model: nn.Module, like: str) -> dict[Switch, Adapter]:
    """A copy of each adapter called `like`, by its site, around the very same base; what they share, the copies do."""
    found = {m: m.adapters[like] for _, m in sites(model) if isinstance(m, Switch) and like in m.adapters}
    kept = [plain(m) for _, m in sites(model)] + list(base_parameters(model).values())
    made = copy.deepcopy(list(found.values()), {id(part): part for part in kept})
    return dict(zip(found, made, strict=True))
