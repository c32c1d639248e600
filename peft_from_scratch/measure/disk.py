"""Bytes on disk."""

import json
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from ..state import FORMAT, adapter_state, save_adapter, settings

CODES = {  # how safetensors calls a dtype, widest first: the order of the tensors in a file
    torch.complex64: "C64", torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


def file_bytes(path: str | os.PathLike) -> int:
    """The size of a file, or of all files in a folder."""
    path = Path(path)
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def adapter_bytes(model: nn.Module, name: str | None = None) -> int:
    """The size of the file that `save_adapter` writes, header included; it is written, measured and deleted."""
    with tempfile.TemporaryDirectory() as folder:
        return file_bytes(save_adapter(model, Path(folder) / "adapter.safetensors", name))


def predicted_bytes(model: nn.Module, name: str | None = None) -> int:
    """The same without writing, so for a model on the meta device too: 8 bytes, the header, the tensors."""
    state = adapter_state(model, name)
    words = {"format": FORMAT, "settings": json.dumps(settings(model, name))}
    return 8 + len(_header(state, words)) + sum(t.nbytes for t in state.values())


def _header(state: dict[str, Tensor], words: dict[str, str]) -> bytes:
    """Of a safetensors file: JSON with dtype, shape and place of each tensor, filled up to 8 bytes."""
    table, place, order = {"__metadata__": words}, 0, list(CODES)
    for key, t in sorted(state.items(), key=lambda item: (order.index(item[1].dtype), item[0])):
        end = place + t.nbytes
        table[key] = {"dtype": CODES[t.dtype], "shape": list(t.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)
