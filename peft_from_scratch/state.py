"""What is saved: what the adapters own, and what trains in place. Never the frozen base."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .adapt import adapters, owned, site_name
from .adapter import base_parameters

FORMAT = "peft_from_scratch 1"


def adapter_state(model: nn.Module, name: str | None = None) -> dict[str, Tensor]:
    """All that the adapters own (frozen tensors too), and the base parameters that train in place, as copies.

    Keys are names in the plain model, so a state fits whatever else is wrapped around the same sites. With several
    named adapters say which. ValueError where there is nothing to save.
    """
    state = {key: _whole(t).detach().clone() for key, t in _live(model, name).items()}
    if not state:
        raise ValueError("nothing to save: the model has no adapters and none of its parameters train")
    return state


def load_adapter(model: nn.Module, source: dict[str, Tensor] | str | os.PathLike, name: str | None = None) -> nn.Module:
    """Fill the adapters of `model` from a state or a file made by `save_adapter`; all of it, or nothing.

    KeyError for missing or extra tensors, ValueError for other shapes or other settings (an alpha, say).
    """
    live = _live(model, name)
    state = source if isinstance(source, dict) else _read(model, Path(source), name)
    missing, extra = live.keys() - state.keys(), state.keys() - live.keys()
    if missing or extra:
        said = [
            f"{what}: {', '.join(sorted(k)[:4])}"
            for what, k in (("missing", missing), ("not in this model", extra))
            if k
        ]
        raise KeyError(f"the state does not fit ({len(missing)} missing, {len(extra)} extra). {'; '.join(said)}")
    for key, t in live.items():
        if t.shape != state[key].shape:
            raise ValueError(f"{key}: the state has shape {tuple(state[key].shape)}, the model {tuple(t.shape)}")
    with torch.no_grad():
        for key, t in live.items():
            t.copy_(state[key])
    return model


def save_adapter(model: nn.Module, path: str | os.PathLike, name: str | None = None) -> Path:
    """Write the adapter state to one safetensors file, with each site's settings in its header."""
    path = Path(path)
    state = {k: t.cpu().contiguous() for k, t in adapter_state(model, name).items()}
    beside = path.with_name(
        f".{path.name}.{os.getpid()}.part"
    )  # a write that is cut short leaves the old file as it was
    try:
        save_file(state, beside, metadata={"format": FORMAT, "settings": json.dumps(settings(model, name))})
        beside.chmod(0o644)  # safetensors makes files that only their owner can read
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def settings(model: nn.Module, name: str | None = None) -> dict[str, str]:
    """Each site's adapter in words, as `print(model)` has it: `LoRA(rank=8, alpha=16)`."""
    return {site: f"{type(a).__name__}({a.extra_repr()})" for site, a in adapters(model, _one(model, name))}


def _live(model: nn.Module, name: str | None) -> dict[str, Tensor]:
    """The tensors themselves, by plain name; one that several sites share only once, at the first."""
    live = {k: p for k, p in base_parameters(model).items() if p.requires_grad}
    return live | {site_name(site, key): t for site, _, key, t in owned(model, _one(model, name))}


def _one(model: nn.Module, name: str | None) -> str | None:
    """The name to save or load; ValueError where it is unknown or where there are several and none is given."""
    known = sorted({a.name for _, a in adapters(model)})
    if (name is None and len(known) > 1) or (name is not None and name not in known):
        raise ValueError(f"say which adapters with name=: this model has {known}")
    return name


def _read(model: nn.Module, path: Path, name: str | None) -> dict[str, Tensor]:
    """The tensors of a file whose settings are those of the model."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no adapter file {path}")
    try:
        with safe_open(path, "pt") as f:
            header, state = f.metadata() or {}, {k: f.get_tensor(k) for k in f.keys()}
    except Exception as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): save or copy it again") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by save_adapter (format {header.get('format')!r}, not {FORMAT!r})")
    saved = json.loads(header["settings"])
    for site, words in settings(model, name).items():
        if saved.get(site, words) != words:
            raise ValueError(f"{site}: saved as {saved[site]}, but this model has {words}")
    return state


def _whole(t: Tensor) -> Tensor:
    """A tensor sharded over processes, gathered; any other as it is."""
    return t.full_tensor() if hasattr(t, "full_tensor") else t
