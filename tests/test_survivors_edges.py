"""The edges of what a method accepts: the last setting that is allowed works, the first that is not is an error."""

import pytest
import torch
from torch import nn

from peft_from_scratch import LoRA
from peft_from_scratch.methods.adapters.bottleneck import Bottleneck
from peft_from_scratch.methods.lowrank import (
    adalora,
    adamss,
    bdlora,
    deft,
    delora,
    glora,
    gralora,
    hira,
    kasa,
    krona,
    loha,
    lokr,
    loraxs,
    miss,
    monteclora,
    peanut,
    psoft,
    randlora,
    said,
    tinylora,
    unilora,
    vblora,
    velora,
    vera,
)
from peft_from_scratch.methods.mixture.lily import Lily
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA
from peft_from_scratch.methods.mixture.poly import Poly
from peft_from_scratch.methods.representation.reft import NoReFT
from peft_from_scratch.methods.representation.side import SideTuning
from peft_from_scratch.methods.rotation.boft import BOFT
from peft_from_scratch.methods.rotation.hra import HRA
from peft_from_scratch.methods.rotation.oft import OFT
from peft_from_scratch.methods.rotation.road import RoAd
from peft_from_scratch.methods.transform.c3a import C3A
from peft_from_scratch.methods.transform.fourierft import FourierFT
from peft_from_scratch.methods.transform.waveft import WaveFT


def alone(page):
    """A page whose adapters share something, for a model of one layer."""
    return lambda base, **settings: page.shared(base, "", **settings)(base)


# method: (maker, allowed, refused). The layer is 12 inputs wide and 8 outputs.
EDGES = {
    "LoRA": (LoRA, [dict(rank=1), dict(alpha=1e-9)], [dict(rank=0), dict(alpha=0)]),
    "AdaLoRA": (adalora.AdaLoRA, [dict(rank=1), dict(alpha=1e-9)], [dict(rank=0), dict(alpha=0)]),
    "AdaMSS": (
        adamss.AdaMSS,
        [dict(rank=1, subspaces=1, subspace_rank=1)],
        [dict(rank=0), dict(rank=4, subspaces=0), dict(rank=4, subspaces=1, subspace_rank=0)],
    ),
    "BD-LoRA": (
        bdlora.BDLoRA, [dict(rank=4, blocks=4, diagonal="B"), dict(rank=6, blocks=6, diagonal="A")],
        [dict(rank=6, blocks=4), dict(rank=6, blocks=3, diagonal="B"), dict(rank=8, blocks=8, diagonal="A")],
    ),
    "DEFT": (
        deft.DEFT, [dict(rank=1), dict(rank=8), dict(rank=2, alpha=1e-9)],
        [dict(rank=0), dict(rank=9), dict(rank=2, alpha=0), dict(rank=2, projection="svd")],
    ),
    "DeLoRA": (delora.DeLoRA, [dict(rank=1), dict(strength=1e-9)], [dict(rank=0), dict(rank=2, strength=0)]),
    "GLoRA": (glora.GLoRA, [dict(rank=1)], [dict(rank=0)]),
    "GraLoRA": (
        gralora.GraLoRA, [dict(rank=2, blocks=2), dict(rank=1, blocks=1), dict(rank=4, blocks=4, hybrid=0)],
        [dict(rank=0, blocks=1), dict(rank=2, alpha=0), dict(rank=4, hybrid=-1), dict(rank=4, blocks=0),
         dict(rank=6, blocks=3)],
    ),
    "HiRA": (hira.HiRA, [dict(rank=1)], [dict(rank=0)]),
    "HRA": (HRA, [dict(rank=1), dict(rank=12)], [dict(rank=0), dict(rank=13)]),
    "KaSA": (kasa.KaSA, [dict(rank=7)], [dict(rank=8)]),
    "KronA": (krona.KronA, [dict(shape=(8, 12)), dict(shape=(1, 1))], [dict(shape=(3, 3)), dict(shape=(2, 5))]),
    "LoHa": (loha.LoHa, [dict(rank=1), dict(alpha=1e-9)], [dict(rank=0), dict(alpha=0)]),
    "LoKr": (lokr.LoKr, [dict(rank=1), dict(alpha=1e-9)], [dict(rank=0), dict(alpha=0)]),
    "LoRA-XS": (loraxs.LoRAXS, [dict(rank=1), dict(rank=8)], [dict(rank=0), dict(rank=9)]),
    "MiSS": (miss.MiSS, [dict(rank=1), dict(rank=12)], [dict(rank=0), dict(rank=13), dict(rank=2, mini=3)]),
    "MonteCLoRA": (
        monteclora.MonteCLoRA, [dict(samples=1), dict(noise=0.0), dict(rank=1)], [dict(samples=0), dict(noise=-0.1)]
    ),
    "PEANuT": (peanut.PEANuT, [dict(rank=1), dict(rank=2, depth=0)], [dict(rank=0), dict(rank=2, depth=-1)]),
    "PSOFT": (
        psoft.PSOFT, [dict(rank=1), dict(rank=8), dict(rank=2, terms=0)],
        [dict(rank=0), dict(rank=9), dict(rank=2, terms=-1)],
    ),
    "RandLoRA": (alone(randlora), [dict(rank=1)], [dict(rank=0)]),
    "SAID": (alone(said), [dict(numbers=1), dict(numbers=96)], [dict(numbers=0), dict(numbers=97)]),
    "TinyLoRA": (
        alone(tinylora), [dict(numbers=1), dict(tie=0.0), dict(tie=1.0)],
        [dict(numbers=0), dict(tie=-0.1), dict(tie=1.1)],
    ),
    "Uni-LoRA": (alone(unilora), [dict(rank=1, length=1)], [dict(rank=0, length=4), dict(rank=1, length=0)]),
    "VB-LoRA": (
        alone(vblora),
        [dict(vectors=2, length=1, rank=1, top_k=1), dict(vectors=3, length=4, top_k=3)],
        [dict(vectors=3, length=0), dict(vectors=3, length=3), dict(vectors=3, length=2, rank=0),
         dict(vectors=3, length=2, top_k=0), dict(vectors=3, length=2, top_k=4)],
    ),
    "VeLoRA": (
        velora.VeLoRA, [dict(groups=1, times=1e-9), dict(groups=12)],
        [dict(groups=0), dict(groups=13), dict(groups=2, times=0), dict(groups=2, update="now")],
    ),
    "VeRA": (alone(vera), [dict(rank=1)], [dict(rank=0)]),
    "Lily": (Lily, [dict(rank=1, n_experts=2)], [dict(rank=0), dict(rank=1, n_experts=1)]),
    "MTL-LoRA": (
        lambda base, **s: MTLLoRA(base, 2, **s), [dict(rank=1, n_up=1, alpha=1e-9, tau=1e-9)],
        [dict(rank=0), dict(n_up=0), dict(alpha=0), dict(tau=0)],
    ),
    "Poly": (
        lambda base, **s: Poly(base, 2, **s), [dict(rank=1, n_skills=1), dict(rank=1, n_splits=4)],
        [dict(rank=0), dict(n_skills=0), dict(n_splits=0), dict(n_splits=3), dict(n_splits=8)],
    ),
    "NoReFT": (NoReFT, [dict(rank=1), dict(rank=8)], [dict(rank=0), dict(rank=9)]),
    "Side-tuning": (SideTuning, [dict(alpha=0.01), dict(alpha=0.99)], [dict(alpha=0.0), dict(alpha=1.0)]),
    "BOFT": (
        lambda base, **s: BOFT(base, s.pop("size", 2), **s),
        [dict(factors=1), dict(dropout=0.0), dict(size=3, factors=1)],
        [dict(factors=0), dict(dropout=1.0), dict(dropout=-0.1), dict(size=3, factors=2)],
    ),
    "OFT": (
        lambda base, **s: OFT(base, s.pop("size", 2), **s),
        [dict(terms=0), dict(terms=3), dict(epsilon=1e-9), dict(size=12)],
        [dict(terms=1), dict(terms=2), dict(terms=-1), dict(epsilon=0.0), dict(size=1), dict(size=5)],
    ),
    "RoAd": (
        lambda base, **s: RoAd(base, 1, **s), [dict(group_size=2), dict(group_size=8)],
        [dict(group_size=0), dict(group_size=1), dict(group_size=3), dict(group_size=6)],
    ),
    "C3A": (C3A, [dict(block=1), dict(block=4)], [dict(block=0), dict(block=3)]),
    "FourierFT": (FourierFT, [dict(n=1), dict(n=96)], [dict(n=0), dict(n=97)]),
    "WaveFT": (
        WaveFT, [dict(n=1), dict(n=96), dict(n=4, order=0), dict(n=4, order=10)],
        [dict(n=0), dict(n=97), dict(n=4, order=-1), dict(n=4, order=11)],
    ),
    "Bottleneck": (Bottleneck, [dict(size=1)], [dict(size=0)]),
}  # fmt: skip
ALLOWED = [(name, settings) for name, (_, allowed, _) in EDGES.items() for settings in allowed]
REFUSED = [(name, settings) for name, (_, _, refused) in EDGES.items() for settings in refused]


@pytest.mark.parametrize(("name", "settings"), ALLOWED)
def test_the_last_that_is_allowed_works(name, settings):
    adapter = EDGES[name][0](nn.Linear(12, 8), **settings)
    if hasattr(adapter, "ids"):
        adapter.ids = torch.tensor([0, 1])
    x = torch.randn(2, 5, 8 if name == "Bottleneck" else 12)
    assert adapter.eval()(x).isfinite().all()


@pytest.mark.parametrize(("name", "settings"), REFUSED)
def test_the_first_that_is_not_is_an_error(name, settings):
    with pytest.raises(ValueError) as error:
        EDGES[name][0](nn.Linear(12, 8), **settings)
    assert len(str(error.value).split()) >= 5, "a sentence, not what some function further down made of it"
