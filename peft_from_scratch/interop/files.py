"""The tensors of a checkpoint: read with safetensors alone, written beside and moved into place."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import FILE as CONFIG
from .kind import Links

WEIGHTS = "adapter_model.safetensors"


def read_state(directory: Path) -> dict[str, Tensor]:
    """All tensors, of one file or of the shards that its index lists. FileNotFoundError where one is missing."""
    state: dict[str, Tensor] = {}
    for path in _parts(directory):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: copy the checkpoint again, all of it")
        try:
            state |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}): copy the checkpoint again") from error
    return state


def _parts(directory: Path) -> list[Path]:
    index = directory / f"{WEIGHTS}.index.json"
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{index} is not an index of shards ({error!r}): copy the checkpoint again") from error
        if outside := [n for n in names if Path(n).name != n]:
            raise ValueError(f"{index} names {outside[0]!r}, which is not a file of its own folder")
        return [directory / name for name in names]
    if list(directory.glob("adapter_model*.bin")):
        raise ValueError(
            f"{directory} holds its weights as .bin, a pickle, which can run any code when it is read: load it in peft "
            "where you trust it, and save it again with safe_serialization=True"
        )
    raise FileNotFoundError(f"{directory} has no {WEIGHTS}: name the folder that peft's save_pretrained wrote")


def write_files(directory: Path, config: dict, links: Links) -> Path:
    """The pair of files, each complete or not there at all."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {key: _plain(link.out(_gathered(link.tensor))) for key, link in links.items()}
    config_text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    _moved(directory / WEIGHTS, lambda path: save_file(state, path, metadata={"format": "pt"}))
    _moved(directory / CONFIG, lambda path: path.write_text(config_text, encoding="utf-8"))
    return directory


def _moved(path: Path, write) -> None:
    """Write beside `path`, then take its place: a write that is cut short leaves what was there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        beside.chmod(0o644)  # safetensors makes files that only their owner can read
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _gathered(t: Tensor) -> Tensor:
    """A tensor sharded over processes, gathered; any other as it is."""
    return (t.full_tensor() if hasattr(t, "full_tensor") else t).detach()


def _plain(t: Tensor) -> Tensor:
    """A copy that shares no memory with another, as safetensors demands."""
    return t.detach().cpu().contiguous().clone()
