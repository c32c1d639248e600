"""Sizes of well-known models, enough to count what they cost: a configuration without weights.

A name of the list, or a folder with a config.json. What the models have in common with their namesakes is every
shape; special tokens and text lengths beyond `max_position_embeddings` do not matter here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..assets import suggestion


def _bert(h: int, layers: int, heads: int, **more: Any) -> dict:
    sizes = dict(hidden_size=h, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * h)
    return {"model_type": "bert"} | sizes | more


def _gpt2(h: int, layers: int, heads: int, **more: Any) -> dict:
    return dict(model_type="gpt2", n_embd=h, n_layer=layers, n_head=heads) | more


def _t5(d: int, layers: int, heads: int, ff: int) -> dict:
    sizes = dict(d_model=d, num_layers=layers, num_heads=heads, d_ff=ff, d_kv=64, vocab_size=32128)
    return dict(model_type="t5", decoder_start_token_id=0) | sizes


def _llama(h: int, layers: int, heads: int, ff: int, vocab: int = 32000, kv: int | None = None, **more: Any) -> dict:
    sizes = dict(hidden_size=h, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv or heads)
    sizes |= dict(intermediate_size=ff, vocab_size=vocab, max_position_embeddings=4096)
    return dict(model_type="llama") | sizes | more


_ROBERTA = dict(model_type="roberta", vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)
SHAPES = {
    "minilm": _bert(384, 6, 12),
    "bert-base": _bert(768, 12, 12),
    "bert-large": _bert(1024, 24, 16),
    "roberta-base": _bert(768, 12, 12) | _ROBERTA,
    "roberta-large": _bert(1024, 24, 16) | _ROBERTA,
    "t5-small": _t5(512, 6, 8, 2048),
    "t5-base": _t5(768, 12, 12, 3072),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt3-175b": _gpt2(12288, 96, 96, n_positions=2048),
    "smollm2": _llama(576, 30, 9, 1536, 49152, kv=3, tie_word_embeddings=True),
    "llama-3.2-1b": _llama(2048, 16, 32, 8192, 128256, kv=8, head_dim=64, tie_word_embeddings=True),
    "llama-3-8b": _llama(4096, 32, 32, 14336, 128256, kv=8),
    "llama-7b": _llama(4096, 32, 32, 11008),
    "llama-13b": _llama(5120, 40, 40, 13824),
    "llama-65b": _llama(8192, 80, 64, 22016),
    "qwen2.5-3b": _llama(2048, 36, 16, 11008, 151936, kv=2, tie_word_embeddings=True) | {"model_type": "qwen2"},
}


def config_of(name: str, attention: str = "sdpa") -> Any:
    """The transformers configuration of a name in SHAPES or of a folder; ValueError that says what there is."""
    from transformers import AutoConfig

    if name in SHAPES:
        settings = dict(SHAPES[name])
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    else:
        config = _read(name)
    config._attn_implementation = attention
    return config


def random_model(config: Any, task: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model of these sizes with new weights, on the device of the enclosing `torch.device`.

    `task`: "classify" (two classes) or "generate"; None: an encoder classifies, any other model generates.
    """
    import transformers

    from ..models.pretrained import auto_class

    encoder = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING and not config.is_encoder_decoder
    task = task or ("classify" if encoder else "generate")
    if task == "classify":
        config.num_labels = 2
        config.pad_token_id = 0 if config.pad_token_id is None else config.pad_token_id
    auto = auto_class(config.model_type, config, task)
    return auto.from_config(config, dtype=dtype, trust_remote_code=False)


def _read(name: str) -> Any:
    from transformers import AutoConfig

    if not (Path(name) / "config.json").is_file():
        words = f"{name!r} is neither a folder with a config.json nor a shape known by name"
        raise ValueError(words + suggestion(name, SHAPES))
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{name}/config.json is not a configuration that transformers knows: {first}") from error
