"""Hugging Face peft checkpoints, in and out: `adapter_config.json` beside `adapter_model.safetensors`.

    model = load_peft(model, "some/folder")      what peft wrote, as this package's adapters
    save_peft(model, "another/folder")           what `PeftModel.from_pretrained` loads, with equal outputs

peft itself is neither imported nor needed.
"""

import os
from pathlib import Path

from torch import nn

from .build import Made, built, installed, restored
from .config import checked, read_config
from .files import read_state, write_files
from .fill import check, expected, fill, normal
from .plan import plan_of
from .types import KINDS, kind_of
from .write import config_of, described

__all__ = ["KINDS", "from_peft_config", "load_peft", "save_peft"]


def load_peft(model: nn.Module, directory: str | os.PathLike, name: str = "default") -> nn.Module:
    """Put the adapters of a peft checkpoint into `model`; use the return value, as with `inject`.

    FileNotFoundError for a missing file, ValueError for a type or field that this package does not have, for a target
    that names nothing and for tensors that are missing, left over or of another shape. Then the model is as it was.
    """
    directory = Path(directory)
    given = read_config(directory)
    config = checked(kind_of(given), given, directory)
    state = read_state(directory)
    with restored(model):
        made = built(plan_of(model, config), name)
        links = expected(made)
        state = normal(model, made, links, state)
        check(links, state)
        model = installed(model, made, name)
    fill(links, made, state)
    return model


def from_peft_config(model: nn.Module, config: dict, name: str = "default") -> nn.Module:
    """Inject untrained adapters as a peft config describes them (a dict, as in `adapter_config.json`).

    Also for a model on the meta device. ValueError as in `load_peft`.
    """
    kind = kind_of(config)
    full = checked(kind, config)
    for field in ("init_weights", "init_lora_weights", "init_ia3_weights"):
        if full.get(field) is False and (field in kind.harmless or kind.peft_type == "LORA"):
            raise ValueError(
                f"{kind.peft_type}: {field}=False asks for a random start that changes the model: leave it out"
            )
    if kind.needs_weights(full):
        raise ValueError(
            f"{kind.peft_type}: {kind.needs_weights(full)}; a config alone cannot give it: load the checkpoint"
        )
    with restored(model):
        return installed(model, built(plan_of(model, full), name), name)


def save_peft(model: nn.Module, directory: str | os.PathLike, name: str | None = None) -> Path:
    """Write the adapters (those called `name`) as a peft checkpoint; returns the folder.

    ValueError for adapters that peft does not have, or that one config cannot describe. Written beside and moved into
    place, the weights first: a write that is cut short leaves what was there.
    """
    made, directory = described(model, name), Path(directory)
    config, links = config_of(model, made), expected(made, saving=True)
    if made.kind.parts is not None:
        config["adapters"] = _save_parts(model, directory, made)
    return write_files(directory, config, links)


def _save_parts(model: nn.Module, directory: Path, made: Made) -> dict[str, str]:
    """Write each expert of a mixture as a LoRA in a folder of its own; peft finds them by these paths alone."""
    folders = {}
    for i, adapters in enumerate(made.kind.parts(made.adapters)):
        part = Made(KINDS["LORA"], {}, adapters, {}, {}, {}, {})
        folder = write_files(directory / f"expert_{i}", config_of(model, part), expected(part, saving=True))
        folders[str(i)] = str(folder.resolve())
    return folders
