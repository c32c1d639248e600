"""What the parts of a host are called that more than one method asks for, by the model's own type."""

import re
from dataclasses import dataclass

from torch import nn

from ..adapter import sites

ENCODERS = ("bert", "roberta")  # they read a text at once: no cache
HEADS = "classifier|score"  # new and untrained: every method trains it in full


@dataclass(frozen=True)
class Host:
    """Patterns for whole names. `above`: what stands between the last block and the head."""

    query_value: str
    key_value: str
    second: str  # the second matrix of the feed-forward layer
    above: str | None


BERT = Host(r".*\.(query|value)", r".*\.(key|value)", r".*layer\.\d+\.output\.dense", r"bert\.pooler")
LLAMA = Host(r".*\.(q|v)_proj", r".*\.(k|v)_proj", r".*\.down_proj", r"model\.norm")
GPT2 = Host(r".*\.c_attn", r".*\.c_attn", r".*\.mlp\.c_proj", r"transformer\.ln_f")
T5 = Host(r".*\.(q|v)", r".*\.(k|v)", r".*\.wo", r".*\.final_layer_norm")
HOSTS = {"bert": BERT, "llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA, "gpt2": GPT2, "t5": T5}
HOSTS["roberta"] = Host(BERT.query_value, BERT.key_value, BERT.second, None)  # its pooler is in the head


def host_of(model: nn.Module) -> Host:
    """ValueError for an architecture that is not in the table."""
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in HOSTS:
        raise ValueError(f"compare/hosts.py has no {kind!r} (it has {', '.join(HOSTS)}): add its names there")
    return HOSTS[kind]


def head_of(model: nn.Module) -> str | None:
    """The pattern of the new head, or None: a language model's head is its embedding, and stays."""
    return HEADS if any(re.fullmatch(HEADS, site) for site, _ in sites(model)) else None
