"""Base models as plain transformers models: `load(name)` gives the model and its tokenizer.

minilm                                       22.7 M, a BERT sentence encoder
smollm2                                      134.5 M, a Llama that chats (from a 4-bit file: no great talker)
tiny-bert tiny-gpt2 tiny-llama tiny-t5       random, two layers, no download
a local folder, or organisation/name         any model of the Hugging Face hub, read as safetensors
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..assets import AssetError, suggestion
from ..fetch import fetch
from .pretrained import auto_class, from_pretrained
from .smollm2 import smollm2_folder
from .tiny import configs, tiny_model, tiny_tokenizer

TINY = ("tiny-bert", "tiny-gpt2", "tiny-llama", "tiny-t5")
NAMES = ("minilm", "smollm2", *TINY)
TASKS = ("classify", "generate", "embed")
OURS = (
    "trust_remote_code",
    "use_safetensors",
    "gguf_file",
)  # how files are read is not the caller's to loosen


def load(
    name: str,
    task: str = "classify",
    num_labels: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **kwargs: Any,
) -> tuple[nn.Module, Any]:
    """A model in eval mode and its tokenizer; a new head is drawn from `seed`, the global RNG is left alone.

    `task` is "classify" (`num_labels` classes), "generate" or "embed" (the body alone). Further arguments go
    to `from_pretrained`, for example `attn_implementation="eager"`. An unknown name or task is a ValueError
    that suggests the near one; what cannot be had without a network is an AssetError.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}{suggestion(task, TASKS)}")
    if refused := [key for key in OURS if key in kwargs]:
        raise ValueError(f"{refused[0]} cannot be set: models are read as safetensors, and no code of theirs is run")
    if name in TINY:
        auto = auto_class(name, configs()[name], task)
        return tiny_model(name, auto, num_labels, dtype, seed, **kwargs), tiny_tokenizer(name)
    source = find_source(name)
    try:
        return from_pretrained(name, source, task, num_labels, dtype, seed, **kwargs)
    except OSError as error:
        raise AssetError(unreachable(name, error)) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"{name} needs code of its own, and that is never run: take another model") from error


def find_source(name: str) -> str:
    """A verified local folder for our own names; a folder or a hub name as it is."""
    if name == "minilm":
        return str(fetch("minilm"))
    if name == "smollm2":
        return str(smollm2_folder())
    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise ValueError(f"{name} is not a folder of a model: it holds no config.json")
    if Path(name).is_dir() or ("/" in name and not Path(name).is_absolute()):
        return name
    hint = "(a model of the hub is written organisation/name, and a folder must exist)"
    raise ValueError(f"there is no model called {name!r} {hint}{suggestion(name, NAMES)}")


def unreachable(name: str, error: OSError) -> str:
    """One sentence for a folder that is not a model or a hub that does not answer."""
    first = str(error).strip().splitlines()[0].rstrip(".")
    if Path(name).is_dir():
        return f"{name} is not a folder of a model in safetensors format: {first}"
    return (
        f"{name} could not be read from the Hugging Face hub: {first}. A hub model needs the network the first "
        f"time; these need none beyond the package index: {', '.join(NAMES)}"
    )
