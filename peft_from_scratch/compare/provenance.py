"""What a number depends on beside its setting: code, libraries, model, data, machine. No names, no paths."""

import hashlib
import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..assets import digest, find_asset

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "numpy")


@cache
def code() -> str:
    """Version and commit; where the sources are not a commit's, their SHA-256 as well."""
    git = ["git", "-C", str(PACKAGE)]
    commit = said([*git, "rev-parse", "--short=12", "HEAD"])
    if commit and said([*git, "status", "--porcelain", "--", str(PACKAGE)]) == "":
        return f"{version('peft-from-scratch')} commit {commit}"
    files = sorted(PACKAGE.rglob("*.py"))
    whole = hashlib.sha256("".join(f"{digest(f)} {f.relative_to(PACKAGE).as_posix()}\n" for f in files).encode())
    after = f"commit {commit} dirty, " if commit else ""
    return f"{version('peft-from-scratch')} {after}sources {whole.hexdigest()[:12]}"


def said(command: list[str]) -> str | None:
    """What a command prints, or None where it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance(model: str, data: str, device: str) -> dict[str, str | int]:
    """All of it, as plain values for one JSON line."""
    return {
        "code": code(),
        **{name: version_of(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "model_sha256": wheel(model),
        "data_sha256": wheel(data),
        "device": device,
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
    }


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def wheel(name: str) -> str:
    """The SHA-256 of the wheel that a model or a data set came in; "" for others."""
    try:
        return find_asset(name).sha256
    except ValueError:
        return ""


def device_slug(device: str) -> str:
    """cpu, or the GPU's name as a folder can carry it."""
    if torch.device(device).type != "cuda":
        return torch.device(device).type
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
