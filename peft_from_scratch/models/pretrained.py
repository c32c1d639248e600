"""Transformers' own `from_pretrained`, made quiet about what we know and strict about what we do not want."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

SAFE = {"trust_remote_code": False, "use_safetensors": True}  # said outright, so that nobody is ever asked


def auto_class(name: str, config: Any, task: str) -> type:
    """The transformers class for a task; to generate with an encoder is a ValueError."""
    import transformers

    if task == "classify":
        return transformers.AutoModelForSequenceClassification
    if task == "embed":
        return transformers.AutoModel
    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForSeq2SeqLM
    if type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        raise ValueError(f"{name} is an encoder and cannot generate: take smollm2, tiny-llama or tiny-gpt2")
    return transformers.AutoModelForCausalLM


def from_pretrained(
    name: str, source: str, task: str, num_labels: int, dtype: torch.dtype, seed: int, **kwargs: Any
) -> tuple[nn.Module, Any]:
    """Model in eval mode and tokenizer out of a folder or the hub; only safetensors, no code of theirs."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    auto = auto_class(name, config, task)
    if task == "classify":
        kwargs = {"num_labels": num_labels, **kwargs}
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    with torch.random.fork_rng(devices=[]), head_report_silenced() as held:
        torch.default_generator.manual_seed(seed)
        model, info = auto.from_pretrained(source, dtype=dtype, output_loading_info=True, **SAFE, **kwargs)
    if not only_the_head_is_new(model, info):
        for record in held:
            logging.getLogger(record.name).handle(record)
    if model.config.pad_token_id is None:  # a classifying decoder looks for the last token that is no padding
        model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def only_the_head_is_new(model: nn.Module, info: dict) -> bool:
    """Whether the checkpoint had the whole body, and nothing that was not wanted."""
    body = model.base_model_prefix + "."
    whole = not any(key.startswith(body) for key in info["missing_keys"])
    extra = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    return whole and not extra and not info["mismatched_keys"]


@contextmanager
def head_report_silenced() -> Iterator[list[logging.LogRecord]]:
    """Hold back transformers' load report (yielded, to be shown after all where it matters) and its bar."""
    from transformers.utils import logging as theirs

    held = []

    def hold(record: logging.LogRecord) -> bool:
        report = "LOAD REPORT" in record.getMessage()
        if report:
            held.append(record)
        return not report

    logger, bars = logging.getLogger("transformers.modeling_utils"), theirs.is_progress_bar_enabled()
    logger.addFilter(hold)
    theirs.disable_progress_bar()
    try:
        yield held
    finally:
        logger.removeFilter(hold)
        if bars:
            theirs.enable_progress_bar()
