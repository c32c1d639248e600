"""`adapter_config.json`: read, and checked so that no field is ignored."""

import json
import warnings
from pathlib import Path

from .kind import Kind

FILE = "adapter_config.json"
COMMON = {  # fields of every type, with peft's defaults
    "peft_type": None,
    "task_type": None,
    "target_modules": None,
    "exclude_modules": None,
    "modules_to_save": None,
    "layers_to_transform": None,
    "layers_pattern": None,
    "bias": "none",
}
ABOUT = ("inference_mode", "base_model_name_or_path", "revision", "auto_mapping", "peft_version", "fan_in_fan_out")
EMPTY = (None, False, [], {}, "")


def read_config(directory: Path) -> dict:
    """The config of a checkpoint as it stands there. FileNotFoundError, or ValueError for what is not a config."""
    path = directory / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{directory} has no {FILE}: name the folder that peft's save_pretrained wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a JSON file ({error}): copy the checkpoint again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, not the fields of a config")
    return config


def checked(kind: Kind, given: dict, directory: Path | None = None) -> dict:
    """`given` with peft's defaults where it is silent. ValueError names a field that this package cannot honour."""
    given = {k: sorted(v) if isinstance(v, set) else v for k, v in given.items()}
    known = COMMON.keys() | kind.fields.keys() | set(kind.patterns.values()) | {*ABOUT, *kind.harmless, *kind.refused}
    tokens = {"trainable_token_indices"} if kind.trains_tokens else set()
    refused = {k: v for k, v in given.items() if k not in known | tokens or k in kind.refused}
    wrong = {k: v for k, v in refused.items() if not (_empty(v) or (k in kind.refused and v == 0))}
    if wrong:
        said = ", ".join(f"{k}={v!r}" for k, v in sorted(wrong.items()))
        raise ValueError(
            f"{kind.peft_type}: this package has nothing for {said}, and leaving it out would change the result"
        )
    if not kind.bias_only and given.get("bias", "none") not in ("none", None):
        raise ValueError(f"{kind.peft_type}: bias={given['bias']!r}, and this type trains no biases of the base")
    unknown = sorted(refused.keys() - set(kind.refused))
    if unknown:
        warnings.warn(
            f"{kind.peft_type}: unknown fields without a value are left out: {', '.join(unknown)}", stacklevel=3
        )
    patterns = dict.fromkeys(kind.patterns.values(), {})
    config = COMMON | dict.fromkeys(tokens) | patterns | kind.fields | given | {"directory": directory}
    return config | {p: config[p] or {} for p in patterns}


def _empty(value: object) -> bool:
    """Whether a field holds nothing. (0 is a number, and 0 == False.)"""
    return any(value == e and type(value) is type(e) for e in EMPTY)
