"""The modules that hold a change: a frozen `base` seen through a few trainable weights.

What an adapter owns (its parameters and buffers outside `base`) is its state; what is under `base` is frozen.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from .layers import refuse_4bit

# What host models read from a layer. A list, not a catch-all: a name that is missing here fails loudly.
FORWARDED = (
    "bias in_features out_features nf nx num_embeddings embedding_dim padding_idx in_channels out_channels "
    "kernel_size stride padding dilation groups padding_mode normalized_shape eps num_features attention_type "
    "main_input_name get_input_embeddings"
).split()


class Adapter(nn.Module):
    """A frozen module `base` and a small change to it; `forward` is the paper's equation."""

    name: str | None = "default"

    def __init__(self, base: nn.Module):
        super().__init__()
        freeze(base)
        self.base = base

    @property
    def weight(self) -> Tensor:
        """An empty tensor with the base's dtype and device.

        Hosts that ask for the dtype (T5) get it; a host that would multiply by the weight itself, and so pass the
        adapter by, fails with a shape error instead of ignoring it.
        """
        return self.base.weight.new_empty(0)

    def own_state(self) -> dict[str, Tensor]:
        """The adapter's own parameters and persistent buffers, frozen ones too, by name."""
        return {k: t for k, t in self.state_dict(keep_vars=True).items() if not k.startswith("base.")}

    def merged(self) -> nn.Module:
        """A plain module with the same outputs, for the methods that have one."""
        raise NotImplementedError(f"{type(self).__name__} changes activations, not weights: it cannot be merged")

    def removed(self) -> nn.Module:
        """The module that was there before."""
        return self.base


for _name in FORWARDED:
    setattr(Adapter, _name, property(lambda self, _name=_name: getattr(self.base, _name)))


class Replaced(Adapter):
    """A trained copy of `base` (or the module `new`), for heads and norms that train in full."""

    def __init__(self, base: nn.Module, new: nn.Module | None = None):
        super().__init__(base)
        if new is None:
            refuse_4bit(base, "Replaced")
        self.trained = (copy.deepcopy(base) if new is None else new).requires_grad_(True)

    @property
    def weight(self) -> Tensor:
        """The trained weight: here a host that reads it is right to use it."""
        return self.trained.weight

    @property
    def bias(self) -> Tensor | None:
        """The trained bias, for the same reason."""
        return self.trained.bias

    def forward(self, *args, **kwargs):
        return self.trained(*args, **kwargs)

    def merged(self) -> nn.Module:
        return copy.deepcopy(self.trained).requires_grad_(False)


class FrozenNorm(Adapter):
    """A BatchNorm that stays in eval: its running statistics are weights too, and `train()` would move them."""

    name = None

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x)

    def train(self, mode: bool = True) -> "FrozenNorm":
        super().train(mode)
        self.base.eval()
        return self

    def merged(self) -> nn.Module:
        return self.base


class Switch(Adapter):
    """Several named adapters over one `base`, of which one is active, or none; or each row of a batch has its own."""

    name = None

    def __init__(self, base: nn.Module, adapters: dict[str, Adapter]):
        super().__init__(base)
        self.adapters = nn.ModuleDict(adapters)
        self.active: str | None = None
        self.by_row: Callable[..., Tensor] | None = None  # set by combine.rows: who answers which rows, not `active`
        self.asleep: dict[str, list[str]] = {}  # inactive adapter -> its tensors that train when it is active

    def chosen(self) -> nn.Module:
        return self.adapters[self.active] if self.active in self.adapters else self.base

    @property
    def weight(self) -> Tensor:
        return self.chosen().weight if self.by_row is None else super().weight  # rows have no weight in common

    def forward(self, *args, **kwargs):
        answer = self.chosen() if self.by_row is None else self.by_row
        return answer(*args, **kwargs)

    def activate(self, name: str | None) -> None:
        """Use `name` from now on; the others stop training, so that no optimiser can move them."""
        for key, adapter in self.adapters.items():
            own = {k: p for k, p in adapter.own_state().items() if isinstance(p, nn.Parameter)}
            if key == name:
                for k in self.asleep.pop(key, ()):
                    own[k].requires_grad_(True)
            elif key not in self.asleep:
                self.asleep[key] = [k for k, p in own.items() if p.requires_grad]
                for p in own.values():
                    p.requires_grad_(False)
                    p.grad = None
        self.active = name

    def merged(self) -> nn.Module:
        chosen = self.chosen()
        return copy.deepcopy(chosen) if chosen is self.base else chosen.merged()


def sites(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module under its name in the plain model, aliases too. An adapted one is met as its adapter."""
    yield name, model
    for key, child in plain(model)._modules.items():
        if child is not None:
            yield from sites(child, f"{name}.{key}" if name else key)


def outside(names: Iterable[str], pattern: str | None) -> list[str]:
    """Those of `names` that are not what `pattern` names, nor within it (a head of several layers); None: all."""
    return [n for n in names if not pattern or not re.fullmatch(rf"({pattern})(\..*)?", n)]


def plain(module: nn.Module | None) -> nn.Module | None:
    """The module itself, or what an adapter has around it."""
    return module.base if isinstance(module, Adapter) else module


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The plain model's parameters by their plain names, each once; what adapters own is left out."""
    found: dict[nn.Parameter, str] = {}
    for site, module in sites(model):
        for key, p in plain(module)._parameters.items():
            if p is not None:
                found.setdefault(p, f"{site}.{key}" if site else key)
    return {name: p for p, name in found.items()}


def freeze(model: nn.Module) -> nn.Module:
    """Stop the training of everything but what adapters own, and drop stale gradients.

    A gradient left from before would still move a frozen weight at the optimiser's next step.
    """
    for p in base_parameters(model).values():
        p.requires_grad_(False)
        p.grad = None
    return model
