"""Checkpoints as bitsandbytes 0.50.2 writes them: 4-bit weights in a state dict, read and written without it.

x.weight                            the packed bytes, (n / 2, 1)
x.weight.absmax                     float32, or 8-bit indices
x.weight.nested_absmax              float32: there with double quantisation
x.weight.quant_map, .nested_quant_map                   the code tables
x.weight.quant_state.bitsandbytes__nf4                  JSON as bytes: shape, block size, dtype, mean of absmax
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..adapter import sites
from ..layers import is_4bit, is_conv1d, is_linear, weight_of
from .codes import code_of, dynamic8
from .double import BLOCK
from .linear import Linear4bit
from .replace import put
from .stored import Stored

MARK = ".weight.quant_state.bitsandbytes__"
State = dict[str, Tensor]


def load_bitsandbytes(model: nn.Module, source: State | str | os.PathLike) -> nn.Module:
    """Fill a plain `model` from a 4-bit checkpoint (a state, a safetensors file or a folder of them); return it.

    Layers that are packed in the checkpoint become `Linear4bit`. KeyError, before anything is changed, for missing or
    extra tensors; ValueError for other shapes, or a code that this package does not have.
    """
    state = dict(source) if isinstance(source, dict) else _read(Path(source))
    packed = {key.split(MARK)[0]: key for key in state if MARK in key}
    if not packed:
        raise ValueError("the checkpoint has no 4-bit weights of bitsandbytes' format: load it as a plain one")
    made = {site: _take(state, site, key) for site, key in packed.items()}
    layers = dict(sites(model))
    for site, (_, info) in made.items():
        layer = layers.get(site)
        if layer is None or not is_linear(layer) or tuple(weight_of(layer).shape) != info["shape"]:
            raise ValueError(f"{site}: the checkpoint has a 4-bit weight {info['shape']}, the model no such layer")
    _check(model, state, {f"{site}.weight" for site in made})
    model.load_state_dict(state, strict=False)
    for site, (stored, info) in made.items():
        old, settings = layers[site], (info["quant_type"], info["blocksize"], info["dtype"])
        new = Linear4bit(stored, info["shape"], old.bias, *settings, is_conv1d(old))
        model = put(model, old, new.to(stored.packed.device).train(old.training))
    return model


def bitsandbytes_state(model: nn.Module) -> State:
    """The model's state with its 4-bit layers as bitsandbytes has them. ValueError for a code that it does not have."""
    state = model.state_dict()
    for site, layer in sites(model):
        if is_4bit(layer):
            for part in Stored._fields:
                state.pop(f"{site}.{part}", None)
            state |= {f"{site}.weight{key}": t for key, t in _parts(layer).items()}
    return state


def _parts(layer: Linear4bit) -> State:
    """One layer's tensors by the end of their name."""
    if layer.code not in ("nf4", "fp4"):
        raise ValueError(f"bitsandbytes has no checkpoints of the code {layer.code!r}: quantise with 'nf4' or 'fp4'")
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    info = {"quant_type": layer.code, "blocksize": layer.block, "dtype": dtype, "shape": layer.shape()}
    parts = {"": layer.packed, ".absmax": layer.absmax, ".quant_map": code_of(layer.code).to(layer.packed.device)}
    if layer.double_quantized:
        info |= {"nested_blocksize": BLOCK, "nested_dtype": "float32", "nested_offset": layer.offset.item()}
        parts |= {".nested_absmax": layer.absmax2, ".nested_quant_map": layer.code8}
    text = json.dumps(info).encode()
    parts[f".quant_state.bitsandbytes__{layer.code}"] = torch.tensor(list(text), dtype=torch.uint8)
    return parts


def _take(state: State, site: str, key: str) -> tuple[Stored, dict[str, Any]]:
    """Remove one layer's tensors from `state`: its stored weight, and what the JSON says."""
    info = json.loads(bytes(state.pop(key).tolist()))
    info |= {"shape": tuple(info["shape"]), "dtype": getattr(torch, info["dtype"])}
    double = "nested_offset" in info
    ends = ["", ".absmax", ".quant_map"] + [".nested_absmax", ".nested_quant_map"] * double
    if missing := [end for end in ends if f"{site}.weight{end}" not in state]:
        raise KeyError(f"the checkpoint does not fit: missing {site}.weight{missing[0]}")
    packed, absmax, code, *nested = [state.pop(f"{site}.weight{end}") for end in ends]
    packed = packed.view(torch.uint8).reshape(-1, 1)  # stored under another dtype where FSDP is to shard it
    if not same(code, code_of(info["quant_type"])) or (double and not same(nested[1], dynamic8())):
        raise ValueError(f"{site}: its code table is not the one of bitsandbytes 0.50.2: quantise the model again")
    if not double:
        return Stored(packed, absmax), info
    if info["nested_blocksize"] != BLOCK:
        raise ValueError(f"{site}: constants in blocks of {info['nested_blocksize']}, and only {BLOCK} is known here")
    return Stored(packed, absmax, nested[0], torch.tensor(info["nested_offset"], device=packed.device)), info


def same(theirs: Tensor, ours: Tensor) -> bool:
    """Is it our code table, but for a last bit that another machine may have computed otherwise?"""
    return theirs.shape == ours.shape and torch.allclose(theirs.cpu().float(), ours, rtol=1e-6, atol=0)


def _check(model: nn.Module, state: State, replaced: set[str]) -> None:
    """Does the unpacked rest of the checkpoint fill the rest of the model? A tied weight may be there once."""
    own = model.state_dict()
    given = {own[k].data_ptr() for k in state.keys() & own.keys()}
    missing = [k for k in own.keys() - state.keys() - replaced if own[k].data_ptr() not in given]
    extra = sorted(state.keys() - own.keys())
    if missing or extra:
        raise KeyError(f"the checkpoint does not fit: missing {sorted(missing)[:4]}, not in this model {extra[:4]}")
    for key in state.keys() & own.keys():
        if state[key].shape != own[key].shape:
            raise ValueError(
                f"{key}: {tuple(state[key].shape)} in the checkpoint, {tuple(own[key].shape)} in the model"
            )


def _read(path: Path) -> State:
    """The tensors of a safetensors file, or of all those in a folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(f.is_file() for f in files):
        raise FileNotFoundError(f"there is no safetensors file at {path}")
    return {key: t for file in files for key, t in load_file(file).items()}
