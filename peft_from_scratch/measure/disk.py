"""Bytes on disk."""

import os
import tempfile
from pathlib import Path

from torch import nn

from ..state import save_adapter


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
