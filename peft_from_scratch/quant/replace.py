"""4-bit layers in the place of linear ones, and adapters folded into 4-bit layers."""

from collections import Counter

from torch import nn

from ..adapt import adapters, merge
from ..adapter import plain, sites
from ..layers import is_4bit, is_conv1d, is_linear, weight_of
from ..methods.parts import Sites, layers_at
from .codes import code_of
from .linear import Linear4bit
from .stored import store


def to_4bit(layer: nn.Module, code: str = "nf4", block: int = 64, double: bool = True) -> Linear4bit:
    """A 4-bit layer for a Linear, or for GPT-2's Conv1D (whose weight is turned: rows of W are what is quantised)."""
    if is_4bit(layer) or not is_linear(layer):
        what = "is a 4-bit layer already" if is_4bit(layer) else "has no 4-bit form: target Linear or Conv1D"
        raise ValueError(f"{type(layer).__name__} {what}")
    W = weight_of(layer)
    stored = store(W, code, block, double)
    shape = tuple(W.shape)
    return Linear4bit(stored, shape, layer.bias, code, block, W.dtype, is_conv1d(layer)).train(layer.training)


def quantize_(
    model: nn.Module, targets: Sites = "all-linear", code: str = "nf4", block: int = 64, double: bool = True
) -> nn.Module:
    """Turn the linear layers at `targets` into 4-bit ones, in place and one after another; return the model.

    The output head, embeddings and norms stay as they are: with `all-linear` that is QLoRA's base. No way back: load
    the model again. ValueError, before anything is changed: adapters, a tied weight, a layer of another kind.
    """
    if any(adapters(model)):
        raise ValueError("the model has adapters: quantise the plain model first, then inject")
    code_of(code)
    layers = layers_at(model, targets)
    tied = _shared_weights(model)
    for layer in layers:
        if is_4bit(layer) or not is_linear(layer):
            raise ValueError(f"the targets name a {type(layer).__name__}: 4-bit layers are made of Linear and Conv1D")
        if id(layer.weight) in tied:
            raise ValueError("the targets name a layer that shares its weight with another: leave it out, as a head is")
    while layers:  # no list keeps what has been replaced, so that memory falls as the loop goes on
        layer = layers.pop()
        model = put(model, layer, to_4bit(layer, code, block, double))
    return model


def merge_4bit(model: nn.Module) -> tuple[nn.Module, dict[str, float]]:
    """The adapters folded into the 4-bit layers under them; and for each, how much of the change that costs.

    W + ΔW lies between the 16 values of its block and is rounded again: the number is |rounding| / |ΔW|, the norm of
    the error over that of what was learned. Near 1, the merge loses what it merges: `merge(model)`, which gives plain
    layers, is exact. ΔW is often smaller than a step of the code.
    """
    merged, lost = merge(model), {}
    for site, module in sites(model):
        base, exact = plain(module), merged.get_submodule(site)
        if is_4bit(base) and not is_4bit(exact):
            small = to_4bit(exact, base.code, base.block, base.double_quantized)
            change = (weight_of(exact) - weight_of(base)).norm()
            lost[site] = ((weight_of(small) - weight_of(exact)).norm() / change.clamp_min(1e-30)).item()
            merged = put(merged, exact, small)
    return merged, lost


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` wherever `old` stands, under all its names; returns the model, or what replaces it."""
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child is old:
                parent._modules[key] = new
    return new if model is old else model


def _shared_weights(model: nn.Module) -> set[int]:
    """The ids of the weights that several modules have."""
    ids = Counter(id(w) for m in model.modules() if (w := m._parameters.get("weight")) is not None)
    return {i for i, modules in ids.items() if modules > 1}
