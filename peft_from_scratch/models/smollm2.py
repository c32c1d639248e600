"""SmolLM2 from its 4-bit GGUF file: dequantised once into plain float32 safetensors, then loaded like any model.

A manifest beside the converted files holds their SHA-256 and that of the GGUF they came from. Where anything
does not match, the conversion is done again.
"""

import json
import os
import shutil
from pathlib import Path

import torch

from ..assets import SMOLLM2, AssetError, digest
from ..cache import cache_dir, explain, locked
from ..fetch import fetch

GGUF, GGUF_SHA256 = next(iter(SMOLLM2.members.items()))


def smollm2_folder(cache: Path | None = None) -> Path:
    """A folder with the converted model and tokenizer, verified now; converted first where it must be."""
    cache = cache or cache_dir()
    folder = cache / "converted" / "smollm2"
    if verified(folder):
        return folder
    source = fetch("smollm2", cache=cache)
    try:
        with locked(cache, "smollm2-converted", quiet=False):
            if not verified(folder):  # another process may have converted it meanwhile
                replace_converted(source, folder)
    except OSError as error:
        raise AssetError(explain(error, SMOLLM2, cache)) from error
    return folder


def verified(folder: Path) -> bool:
    """Whether the folder holds exactly the files of its manifest, made from the pinned GGUF."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return manifest["gguf"] == GGUF_SHA256 and all(
            digest(folder / name) == sha256 for name, sha256 in manifest["files"].items()
        )
    except (
        FileNotFoundError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # absent, cut short or not ours
        return False


def replace_converted(source: Path, folder: Path) -> None:
    """Convert beside `folder`, then move the result into its place."""
    again = "does not match its manifest: " if folder.exists() else ""
    print(f"smollm2: {again}converting once from 4-bit GGUF to safetensors (about 15 s, 540 MB)", flush=True)
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    convert(source, beside)
    for file in beside.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone; a room shares its cache
    files = {f.name: digest(f) for f in sorted(beside.iterdir())}
    manifest = json.dumps({"gguf": GGUF_SHA256, "files": files}, indent=1)
    (beside / "manifest.json").write_text(manifest, encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(beside, folder)


def convert(source: Path, target: Path) -> None:
    """Dequantise the GGUF into float32 safetensors, with its tokenizer and chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    del model.config.quantization_config  # it is plain now; with this entry save_pretrained refuses
    model.hf_quantizer = None
    model.save_pretrained(target)
