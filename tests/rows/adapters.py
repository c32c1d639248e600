"""Adapters that stand in a block: serial, around a norm, beside a layer, compact, fused, invertible, gated."""

from functools import partial

from contract import Row, count

from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.adapters.adapter_fusion import Fused
from peft_from_scratch.methods.adapters.bottleneck import Bottleneck
from peft_from_scratch.methods.adapters.compacter import Compact, Rule
from peft_from_scratch.methods.adapters.houlsby import Serial
from peft_from_scratch.methods.adapters.invertible import Coupling, Invertible
from peft_from_scratch.methods.adapters.parallel import Beside
from peft_from_scratch.methods.adapters.pfeiffer import AroundNorm
from peft_from_scratch.methods.adapters.unipelt import GatedBottleneck, GatedLoRA

CHANNELS = "a bottleneck adapter reads features in the last dimension, a convolution has them in dimension 1"
NO_CONV = {"Conv2d": CHANNELS, "Conv2d(groups)": CHANNELS}
VECTORS = NO_CONV | {"Embedding": "the input is tokens, not vectors", "LayerNorm": "not the end of a sub-layer"}
ONLY_NORM = NO_CONV | dict.fromkeys(("Linear", "Conv1D", "Embedding"), "it uses the norm twice: of a norm only")


def beside(base, size, **settings):
    return Beside(base, partial(Bottleneck, size=size, std=None, d_in=weight_of(base).shape[1], **settings))


def compact(base, size, n):
    return Serial(base, lambda layer: Compact(layer, Rule(layer, n), size))


def fused(base, bias):
    return Serial(base, lambda layer: Fused(layer, [Bottleneck(layer, 3, std=0.5) for _ in range(2)], bias))


def no_merge(*args, **settings):
    return Row(*args, merges=False, **({"starts_as_base": False} | settings))


ROWS = {
    "Houlsby": no_merge(
        lambda base: Serial(base, partial(Bottleneck, size=3, act="gelu", std=0.01)),
        count("Houlsby adapters"),
        dict(size=3),
        not_for=NO_CONV,
    ),
    "AdapterDrop, a kept block": no_merge(
        lambda base: Serial(base, partial(Bottleneck, size=2, act="swish")),
        count("AdapterDrop"),
        dict(size=2),
        not_for=NO_CONV,
    ),
    "Pfeiffer": no_merge(
        lambda base: AroundNorm(base, partial(Bottleneck, size=3, std=0.1)),
        count("Pfeiffer adapters"),
        dict(size=3),
        not_for=ONLY_NORM,
    ),
    "Parallel": no_merge(
        lambda base: beside(base, 3, scale=1.0),
        count("Parallel adapters"),
        dict(size=3),
        starts_as_base=True,
        not_for=VECTORS,
    ),
    "Scaled parallel, learned": no_merge(
        lambda base: beside(base, 3, scale="learned"),
        count("Scaled parallel adapters"),
        dict(size=3, scale="learned"),
        starts_as_base=True,
        not_for=VECTORS,
    ),
    "MAM, its parallel part": no_merge(
        lambda base: beside(base, 5, scale=4.0),
        count("MAM adapter"),
        dict(size=5),
        starts_as_base=True,
        not_for=VECTORS,
    ),
    "Compacter": no_merge(lambda base: compact(base, 4, 4), count("Compacter"), dict(size=4, n=4), not_for=NO_CONV),
    "Compacter++, n = 2": no_merge(
        lambda base: compact(base, 6, 2), count("Compacter++"), dict(size=6, n=2), not_for=NO_CONV
    ),
    "AdapterFusion": no_merge(
        lambda base: fused(base, False), count("AdapterFusion"), dict(bias=False), not_for=NO_CONV
    ),
    "Invertible": no_merge(
        lambda base: Invertible(base, Coupling(base, 3, act="swish")),
        count("Invertible adapters"),
        dict(size=3),
        not_for=NO_CONV,
    ),
    "UniPELT, adapter": no_merge(
        lambda base: Serial(base, partial(GatedBottleneck, size=3)),
        count("UniPELT"),
        dict(size=3, rank=0),
        not_for=NO_CONV,
    ),
    "UniPELT, LoRA": no_merge(
        lambda base: GatedLoRA(base, 3), count("UniPELT"), dict(rank=3), starts_as_base=True, not_for=VECTORS
    ),
}
