r"""Where a transformer block has its parts: the table by which bottleneck adapters find their places.

    x ─ attention ─ f ─ (+ x) ─ norm ─ ...        post-norm (BERT):  y = LN(f + x), the norm sees the sum
    x ─ norm ─ attention ─ f ─ (+ x) ─ ...        pre-norm (GPT-2, Llama, T5):  y = f + x

For another architecture give your own `Places` to the method.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

from torch import nn

from ...adapter import Adapter, plain
from ...adapter import sites as named
from ...targets import Targets


@dataclass(frozen=True)
class Places:
    """Names in a model. `blocks` and `embeddings` are patterns for whole names, the others are names in a block."""

    blocks: str
    attention: str  # the module whose output is the attention's f: after its dropout, before x is added
    feed_forward: str  # the same of the feed-forward sub-layer
    beside: str  # the feed-forward sub-layer, from its input to f; post-norm: the module called with (h, x)
    end: str  # post-norm: the norm over f + x of the feed-forward; pre-norm: the module whose output is f + x
    norms: tuple[str, ...]
    embeddings: str  # the module whose output enters the first block
    query_value: tuple[str, ...]  # the matrices to which hybrids give LoRA
    post_norm: bool = False


BERT = Places(
    blocks=r"(.*\.)?encoder\.layer\.\d+", attention="attention.output.dropout", feed_forward="output.dropout",
    beside="output", end="output.LayerNorm", norms=("attention.output.LayerNorm", "output.LayerNorm"),
    embeddings=r"(.*\.)?embeddings\.dropout",
    query_value=("attention.self.query", "attention.self.value"), post_norm=True,
)  # fmt: skip
GPT2 = Places(
    blocks=r"(.*\.)?h\.\d+", attention="attn.resid_dropout", feed_forward="mlp", beside="mlp", end="",
    norms=("ln_1", "ln_2"), embeddings=r"(.*\.)?drop", query_value=("attn.c_attn",),
)  # fmt: skip
LLAMA = Places(
    blocks=r"(.*\.)?layers\.\d+", attention="self_attn.o_proj", feed_forward="mlp", beside="mlp", end="",
    norms=("input_layernorm", "post_attention_layernorm"), embeddings=r"(.*\.)?embed_tokens",
    query_value=("self_attn.q_proj", "self_attn.v_proj"),
)  # fmt: skip
T5_ENCODER = Places(
    blocks=r"(.*\.)?encoder\.block\.\d+", attention="layer.0.dropout", feed_forward="layer.1.dropout",
    beside="layer.1.DenseReluDense", end="layer.1", norms=("layer.0.layer_norm", "layer.1.layer_norm"),
    embeddings=r"(.*\.)?shared",
    query_value=("layer.0.SelfAttention.q", "layer.0.SelfAttention.v"),
)  # fmt: skip
T5_DECODER = Places(
    blocks=r"(.*\.)?decoder\.block\.\d+", attention="layer.0.dropout", feed_forward="layer.2.dropout",
    beside="layer.2.DenseReluDense", end="layer.2", norms=tuple(f"layer.{i}.layer_norm" for i in range(3)),
    embeddings=r"(.*\.)?shared",
    query_value=("layer.0.SelfAttention.q", "layer.0.SelfAttention.v"),
)  # fmt: skip
TABLE = {  # by the host's config.model_type
    "bert": (BERT,), "roberta": (BERT,), "xlm-roberta": (BERT,), "camembert": (BERT,),
    "gpt2": (GPT2,),
    "llama": (LLAMA,), "mistral": (LLAMA,), "qwen2": (LLAMA,),
    "t5": (T5_ENCODER, T5_DECODER),
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One block of a model: its name, its number in its stack, and the norm that tells the block's width and dtype."""

    name: str
    number: int
    places: Places
    norm: nn.Module

    def site(self, part: str) -> str:
        """The whole name of one of the `Places`, or of another module in the block."""
        part = getattr(self.places, part) if part in PARTS else part
        return f"{self.name}.{part}" if part else self.name


PARTS = {f.name for f in fields(Places)}


def places_of(model: nn.Module, places: Places | None = None) -> tuple[Places, ...]:
    """The model's entries of the table, or `places`. ValueError for an architecture that is not in it."""
    kind = getattr(getattr(plain(model), "config", None), "model_type", type(plain(model)).__name__)
    if places is None and kind not in TABLE:
        raise ValueError(
            f"the table of places has no {kind!r} (it has {', '.join(TABLE)}): "
            "give places=Places(blocks=..., attention=..., ...) with the names that print(model) shows"
        )
    return TABLE[kind] if places is None else (places,)


def blocks(model: nn.Module, places: Places | None = None) -> list[Block]:
    """The model's blocks, in its order. ValueError for an unknown architecture, or names that are not there."""
    modules = {name: plain(module) for name, module in named(model)}
    found = []
    for entry in places_of(model, places):
        for name in (n for n in modules if re.fullmatch(entry.blocks, n)):
            number = int(re.search(r"\d+$", name)[0]) if name[-1].isdigit() else len(found)
            block = Block(name, number, entry, modules.get(f"{name}.{entry.norms[-1]}"))
            for part in [
                *entry.norms,
                *entry.query_value,
                entry.attention,
                entry.feed_forward,
                entry.beside,
                entry.end,
            ]:
                if block.site(part) not in modules:
                    raise ValueError(f"the places name {block.site(part)!r}, which this model has not: correct them")
            found.append(block)
    if not found:
        raise ValueError("the places' pattern for blocks matches no module of this model: correct it, or give places=")
    return found


def targets(
    found: list[Block], part: str, adapter: Callable[..., Adapter], make: Callable[[nn.Module], nn.Module]
) -> Targets:
    """What `inject` needs to put `adapter` around one part of each block, with a small network from `make` in it."""
    return {re.escape(block.site(part)): partial(adapter, make=make, layer=block.norm) for block in found}
