"""Who is compared: each method with its settings, its family, and the learning rate at which its search begins.

A contestant is a function of a plain model, `adapt(model)`; nothing else differs between two rows of a table. `lr` is
only where the search starts (half decades, from the paper or from small runs): the sweep goes on from there until the
best rate is not at an edge.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..adapt import inject
from ..adapter import Replaced
from ..methods.adapters.compacter import compacter
from ..methods.adapters.houlsby import houlsby
from ..methods.adapters.ia3 import IA3
from ..methods.adapters.parallel import parallel
from ..methods.adapters.pfeiffer import pfeiffer
from ..methods.adapters.places import blocks
from ..methods.lowrank.adalora import AdaLoRA
from ..methods.lowrank.dora import DoRA
from ..methods.lowrank.loha import LoHa
from ..methods.lowrank.lokr import LoKr
from ..methods.lowrank.lora import LoRA
from ..methods.lowrank.loraxs import LoRAXS
from ..methods.lowrank.starts.pissa import pissa
from ..methods.lowrank.vera import shared
from ..methods.prompts.p_tuning import p_tuning
from ..methods.prompts.prefix_tuning import prefix_tuning
from ..methods.prompts.prompt_tuning import prompt_tuning
from ..methods.representation.lst import LST
from ..methods.representation.reft import LoReFT
from ..methods.rotation.boft import BOFT
from ..methods.rotation.hra import HRA
from ..methods.rotation.oft import OFT
from ..methods.selective.bitfit import bitfit
from ..methods.selective.fish_mask import fish_mask
from ..methods.selective.full import full
from ..methods.selective.head import head_only
from ..methods.selective.ln_tuning import ln_tuning
from ..methods.selective.shira import SHiRA
from ..methods.selective.top_k import top_k
from ..methods.transform.c3a import C3A
from ..methods.transform.fourierft import FourierFT
from ..optim.lora_plus import lora_plus
from ..targets import Targets
from ..training.running import Batch
from .hosts import ENCODERS, head_of, host_of
from .loops import adalora_loop, galore_loop
from .rates import half_decade

Examples = Sequence[Batch]


@dataclass(frozen=True)
class Contestant:
    """One row of a table. `fit(model, steps)`: what else `train.fit` is to be told (an optimiser, a loss)."""

    name: str
    family: str
    change: Callable[..., nn.Module]
    lr: float
    note: str = ""
    fit: Callable[[nn.Module, int], dict[str, Any]] = lambda model, steps: {}
    examples: bool = False  # looks at training data before it starts

    def adapt(self, model: nn.Module, examples: Examples = ()) -> nn.Module:
        """The plain model with this method on it, its head (where there is one) trained in full."""
        return self.change(model, examples) if self.examples else self.change(model)


def at(where: str, factory: Callable) -> Callable[[nn.Module], nn.Module]:
    """`factory` at one kind of site of the host (see hosts.py) or at "all-linear", and the head in full."""

    def change(model: nn.Module) -> nn.Module:
        sites = where if where == "all-linear" else getattr(host_of(model), where)
        return inject(model, {sites: factory} | with_head(model))

    return change


def of(targets: Callable[[nn.Module], Targets]) -> Callable[[nn.Module], nn.Module]:
    """For methods that name their own places in the model."""
    return lambda model: inject(model, targets(model) | with_head(model))


def with_head(model: nn.Module) -> Targets:
    return {head: Replaced} if (head := head_of(model)) else {}


def vera(model: nn.Module) -> Targets:
    sites = host_of(model).query_value
    return {sites: shared(model, sites, rank=256)}


def ia3(model: nn.Module) -> Targets:
    host = host_of(model)
    return {host.key_value: IA3, host.second: partial(IA3, feed_forward=True)}


def loreft(model: nn.Module) -> Targets:
    make = partial(LoReFT, rank=4, width=model.config.hidden_size)
    return {re.escape(block.site("end")): make for block in blocks(model)}


def lst(model: nn.Module) -> Targets:
    heads = {getattr(model.config, key, None) for key in ("num_attention_heads", "num_key_value_heads")} - {None}
    narrower = next((k for k in (4, 3, 2) if not any(h % k for h in heads)), 1)
    return {model.base_model_prefix: partial(LST, reduction=narrower)}


def prefix(model: nn.Module) -> Targets:
    if model.config.model_type in ENCODERS:
        raise ValueError("a prefix lives in the cache of keys and values, and an encoder keeps none")
    return prefix_tuning(model)


def top_1(model: nn.Module) -> nn.Module:
    return top_k(model, 1, "|".join(part for part in (head_of(model), host_of(model).above) if part))


def only_head(model: nn.Module) -> nn.Module:
    if head_of(model) is None:
        raise ValueError("a language model has no new head to train: its output layer is the embedding")
    return head_only(model, head_of(model))


def fish(model: nn.Module, examples: Examples) -> nn.Module:
    return fish_mask(model, examples[:8], 0.005, "all-linear", head_of(model))


def row(name: str, family: str, change: Callable, half_decades: int, note: str = "", **more: Any) -> Contestant:
    return Contestant(name, family, change, half_decade(half_decades), note, **more)


RSLORA = partial(LoRA, rank=64, rslora=True)
PLUS = {"fit": lambda model, steps: {"optimizer": lora_plus}}
CONTESTANTS = {
    c.name: c
    for c in (
        row("full", "selective", full, -8),
        row("head only", "selective", only_head, -2),
        row("top layer", "selective", top_1, -7, "the last block and what stands above it"),
        row("BitFit", "selective", lambda m: bitfit(m, head_of(m)), -5),
        row("LN-tuning", "selective", lambda m: ln_tuning(m, head=head_of(m)), -4),
        row("SHiRA", "selective", at("query_value", SHiRA), -5, "as many weights as LoRA of rank 8; q, v"),
        row("FISH mask", "selective", fish, -6, "0.5 % of the linear layers", examples=True),
        row("LoRA", "low rank", at("query_value", LoRA), -5, "rank 8, alpha 16; q, v"),
        row("LoRA all-linear", "low rank", at("all-linear", LoRA), -5, "rank 8, alpha 16"),
        row("rsLoRA", "low rank", at("query_value", RSLORA), -6, "rank 64, alpha 16; q, v"),
        row("LoRA+", "low rank", at("query_value", LoRA), -6, "LoRA with 16 times the rate for B", **PLUS),
        row("DoRA", "low rank", at("query_value", DoRA), -5, "rank 8, alpha 16; q, v"),
        row("PiSSA", "low rank", at("query_value", partial(LoRA, start=pissa)), -6, "rank 8, alpha 16; q, v"),
        row("AdaLoRA", "low rank", at("query_value", AdaLoRA), -4, "rank 12 to 8 on average; q, v", fit=adalora_loop),
        row("VeRA", "low rank", of(vera), -2, "rank 256; q, v"),
        row("LoRA-XS", "low rank", at("all-linear", partial(LoRAXS, rank=16)), -4, "rank 16"),
        row("LoHa", "low rank", at("query_value", LoHa), -5, "rank 8; q, v"),
        row("LoKr", "low rank", at("query_value", LoKr), -5, "rank 8; q, v"),
        row("OFT", "rotation", at("query_value", OFT), -5, "blocks of 32; q, v"),
        row("BOFT", "rotation", at("query_value", partial(BOFT, block_size=8, factors=2)), -4, "8, 2 factors; q, v"),
        row("HRA", "rotation", at("query_value", HRA), -5, "8 mirrors; q, v"),
        row("FourierFT", "transform", at("query_value", FourierFT), -2, "1,000 coefficients; q, v"),
        row("C3A", "transform", at("query_value", partial(C3A, block=64)), -2, "blocks of 64; q, v"),
        row("(IA)³", "activations", of(ia3), -3, "k, v and the second feed-forward matrix"),
        row("LoReFT", "activations", of(loreft), -5, "rank 4, every layer, every position"),
        row("Houlsby", "adapters", of(partial(houlsby, size=32)), -6, "size 32"),
        row("Pfeiffer", "adapters", of(partial(pfeiffer, size=48)), -6, "size 48"),
        row("parallel", "adapters", of(partial(parallel, size=48)), -7, "size 48, scale 4"),
        row("Compacter", "adapters", of(compacter), -4, "size 24, n 4"),
        row("prompt", "prompts", of(partial(prompt_tuning, start="vocabulary")), -1, "20 vectors, from the vocabulary"),
        row("P-tuning", "prompts", of(partial(p_tuning, hidden=128)), -5, "20 vectors from an LSTM of 128"),
        row("prefix", "prompts", of(prefix), -3, "20 keys and values a layer; decoders only"),
        row("LST", "beside", of(lst), -6, "a quarter as wide (a third where heads ask for it)"),
        row("GaLore", "optimiser", full, -7, "all weights, in rank 64, renewed every 50 steps", fit=galore_loop),
    )
}  # fmt: skip
