"""Device, memory, the folders that are written to, and the files of models and data."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import torch

from ...assets import ASSETS
from ...cache import cache_dir
from ...download import megabytes
from ...fetch import state
from ..machine import free_disk, memory
from ..progress import progress_path
from .finding import Finding

GB = 2**30


def device() -> Finding:
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Finding("ok", "device", f"{card.name}, {card.total_memory / GB:.0f} GB.")
    if shutil.which("nvidia-smi"):
        return Finding(
            "note",
            "device",
            "there is an NVIDIA driver, but torch cannot use the GPU: all runs on the CPU.",
            "Compare the CUDA versions that `nvidia-smi` and `torch.version.cuda` name.",
        )
    return Finding("ok", "device", f"CPU, {os.cpu_count()} cores, no GPU: every lesson runs, with the smaller model.")


def ram() -> Finding:
    total, free = memory()
    if total is None:
        return Finding("note", "memory", "its size cannot be read here.", "The lessons need 4 GB.")
    if free < 2 * GB:
        return Finding("problem", "memory", f"{free / GB:.1f} GB of {total / GB:.0f} GB are free.",
                       "The lessons need 2 GB: close other programs, or set PEFT_COURSE_MODE=ci.")  # fmt: skip
    return Finding("ok", "memory", f"{free / GB:.0f} GB free of {total / GB:.0f} GB.")


def folders() -> list[Finding]:
    """The three places the course writes to: models, progress, temporary files."""
    missing = sum(asset.size for asset in ASSETS if not (cache_dir() / "assets" / asset.name).is_dir())
    return [_folder("cache", cache_dir(), "PFS_CACHE", 2 * missing),
            _progress(progress_path()),
            _folder("temporary files", Path(tempfile.gettempdir()), "TMPDIR", 0)]  # fmt: skip


def _progress(path: Path) -> Finding:
    """The folder of the log, and the log itself where there is one already."""
    found = _folder("progress", path.parent, "PFS_PROGRESS", 0)
    try:
        if found.kind == "ok" and path.exists():
            path.open("ab").close()
    except OSError as error:
        return Finding("problem", "progress", f"{path} cannot be written ({error.strerror}).",
                       "Change its rights, or set PFS_PROGRESS to another file.")  # fmt: skip
    return found


def _folder(topic: str, folder: Path, variable: str, need: int) -> Finding:
    other = f"Set {variable} to a folder on another disk"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Finding("problem", topic, f"the disk with {folder} is full.", f"Make room there. {other} otherwise.")
        return Finding("problem", topic, f"{folder} cannot be written ({error.strerror}).", f"{other}, or of your own.")
    free = free_disk(folder)
    if free < need:
        return Finding("problem", topic, f"{megabytes(free)} are free in {folder}, and the models still need "
                       f"{megabytes(need)}.", f"Make room there. {other} otherwise.")  # fmt: skip
    return Finding("ok", topic, f"{folder}, {free / GB:.1f} GB free.")


def models() -> list[Finding]:
    """Each model and dataset that is not here with the right hash."""
    try:
        found = {asset: state(asset, cache_dir()) for asset in ASSETS}
    except OSError as error:
        return [Finding("problem", "models", f"{cache_dir()} cannot be read ({error.strerror}).",
                        "Set PFS_CACHE to a folder of your own.")]  # fmt: skip
    bad = [Finding("problem", asset.name, f"{said}, {megabytes(asset.size)}.",
                   f"With a network, run: python -m peft_from_scratch fetch {asset.name}")
           for asset, said in found.items() if said != "ready"]  # fmt: skip
    return bad or [Finding("ok", "models and data", f"{len(found)} ready, every file has its SHA-256.")]
