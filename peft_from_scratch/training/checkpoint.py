"""Keep a training run on disk, so that it can go on exactly where it was stopped.

One safetensors file holds it all: what training moves, the optimiser's state and the random states as tensors,
the history and the settings as JSON in its header. One file, since that can be moved into place in one piece.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..adapt import adapters, owned
from ..adapter import base_parameters, sites
from .running import Batch

FILE = "training.safetensors"
FORMAT = "peft_from_scratch training 1"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read, or belongs to another run; what is on disk is unharmed."""


class Checkpoint:
    """The state of one run of `fit` in a folder. `settings` say which run: a checkpoint with others is refused."""

    def __init__(
        self, folder: str | os.PathLike, model: nn.Module, parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, settings: dict,
    ):  # fmt: skip
        self.path = Path(folder) / FILE
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.names = {p: name for name, p in parameters.items()}  # all that ever train, those asleep now too
        self.settings = json.loads(json.dumps(settings))  # as it will be read back

    def save(self, history: dict) -> None:
        """Write beside and move into place: a write that fails leaves the checkpoint before it as it was."""
        header = {"format": FORMAT, "settings": self.settings, "history": history, "scaler": self.scaler.state_dict()}
        header["optimizer"], moments = self._optimizer_state()
        tensors = {k: t.detach().cpu().contiguous() for k, t in (self._moving() | moments | _random()).items()}
        beside = self.path.with_name(f".{FILE}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(_apart(tensors), beside, metadata={k: json.dumps(v) for k, v in header.items()})
            os.replace(beside, self.path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the checkpoint {self.path} could not be written ({error}); the one before it, if any, is unharmed. "
                "Make room or choose a folder that can be written, then call fit again"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()

    def load(self) -> dict | None:
        """Put everything back as it was and return the history; None if there is nothing yet."""
        if not self.path.exists():
            return None
        header, tensors = self._read()
        self._check(header["settings"], tensors)
        with torch.no_grad():
            for key, t in self._moving().items():
                t.copy_(tensors[key])
        self._put_optimizer_state(header["optimizer"], tensors)
        self.scaler.load_state_dict(header["scaler"] or self.scaler.state_dict())
        torch.set_rng_state(tensors["random/cpu"])
        if torch.cuda.is_available() and "random/cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random/cuda"])
        return header["history"]

    def _read(self) -> tuple[dict, dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as f:
                header = {k: json.loads(v) for k, v in (f.metadata() or {}).items()}
                # copies: a file that is still mapped could not be replaced on Windows
                tensors = {k: f.get_tensor(k).clone() for k in f.keys()}
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{self.path} is damaged ({error}): delete it to start anew") from error
        if header.get("format") != FORMAT:
            raise CheckpointError(f"{self.path} was not written by fit ({header.get('format')!r} is not {FORMAT!r})")
        return header, tensors

    def _check(self, settings: dict, tensors: dict[str, Tensor]) -> None:
        """Refuse a checkpoint of another run, before anything is changed."""
        then = settings | {k: list(t.shape) for k, t in tensors.items() if k.startswith("model/")}
        now = self.settings | {k: list(t.shape) for k, t in self._moving().items()}
        keys = [k for k in dict.fromkeys([*now, *then]) if then.get(k) != now.get(k)]
        if keys:
            absent = "not there"
            said = [f"{k.removeprefix('model/')} was {then.get(k, absent)}, is {now.get(k, absent)}" for k in keys[:4]]
            raise CheckpointError(
                f"the checkpoint {self.path} belongs to another run ({len(keys)} differences): {'; '.join(said)}. "
                "Call fit as before to go on, or give it another folder to start anew"
            )

    def _moving(self) -> dict[str, Tensor]:
        """What a step may change, live: all that adapters own, the base where it trains, its running statistics."""
        base = base_parameters(self.model)
        live = {f"model/{k}": p for k, p in base.items() if p in self.names}
        live |= {f"model/{site}:{adapter.name}.{k}": t for site, adapter, k, t in owned(self.model)}
        for site, module in sites(self.model):
            if isinstance(module, _BatchNorm):  # a frozen one is a FrozenNorm
                live |= {f"model/{site}.{k}": t for k, t in module.named_buffers(recurse=False)}
        return live

    def _optimizer_state(self) -> tuple[dict, dict[str, Tensor]]:
        """What is not a tensor (steps, seeds), by parameter or of the whole; and the tensors."""
        whole = self.optimizer.state_dict()
        state, _, order = whole.pop("state"), whole.pop("param_groups"), self._order()
        plain = {order[i]: {k: v for k, v in own.items() if not torch.is_tensor(v)} for i, own in state.items()}
        tensors = {
            f"optimizer/{order[i]}/{k}": t for i, own in state.items() for k, t in own.items() if torch.is_tensor(t)
        }
        return {"of parameters": plain, "whole": whole}, tensors

    def _put_optimizer_state(self, header: dict, tensors: dict[str, Tensor]) -> None:
        own = {name: dict(values) for name, values in header["of parameters"].items()}
        for path, t in tensors.items():
            kind, _, rest = path.partition("/")
            if kind == "optimizer":
                name, _, key = rest.rpartition("/")
                own[name][key] = t
        state = {i: own[name] for i, name in enumerate(self._order()) if name in own}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | header["whole"] | {"state": state})

    def _order(self) -> list[str]:
        """The names of the optimiser's parameters, as its state numbers them."""
        return [self.names.get(p, "") for group in self.optimizer.param_groups for p in group["params"]]


def fingerprint(model: nn.Module, batch: Batch) -> dict:
    """What tells one run from another: the adapters' settings, a digest of the frozen base, one of a batch."""
    frozen = {k: p for k, p in base_parameters(model).items() if not p.requires_grad}
    made = {f"{site or 'model'} ({a.name})": f"{type(a).__name__}({a.extra_repr()})" for site, a in adapters(model)}
    return made | {"frozen weights": _digest(frozen, 16), "first batch": _digest(dict(batch), None)}


def _digest(tensors: dict[str, Tensor], most: int | None) -> str:
    """A digest of names, shapes and the first `most` values: instant, and tells pretrained weights apart."""
    digest = hashlib.sha256()
    for name, t in sorted(tensors.items()):
        digest.update(f"{name} {tuple(t.shape)} {t.dtype}".encode())
        digest.update(t.detach().flatten()[:most].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _random() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    return states | ({"random/cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy what shares memory with a tensor before it (a basis shared by all sites): safetensors refuses that."""
    seen: set[int] = set()
    for key, t in tensors.items():
        if t.data_ptr() in seen:
            tensors[key] = t.clone()
        seen.add(t.data_ptr())
    return tensors
