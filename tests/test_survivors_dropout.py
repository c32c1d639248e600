"""Dropout falls on what the adapter reads, in training alone; an embedding's input is a token's number and is left."""

import pytest
import torch
from hosts import stir
from torch import nn

from peft_from_scratch import LoRA, trained
from peft_from_scratch.methods.adapters.unipelt import GatedLoRA
from peft_from_scratch.methods.lowrank import (
    adalora,
    bdlora,
    deft,
    delora,
    dora,
    gralora,
    hira,
    kasa,
    miss,
    monteclora,
    psoft,
    qalora,
    randlora,
    unilora,
    vblora,
    velora,
    vera,
)
from peft_from_scratch.methods.lowrank.starts.mica import MiCA
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA


def alone(page, **settings):
    """A page whose adapters share something, for a model of one layer."""
    return lambda base, **more: page.shared(base, "", **settings, **more)(base)


METHODS = {
    "AdaLoRA": lambda base, **s: adalora.AdaLoRA(base, 3, **s),
    "BD-LoRA": lambda base, **s: bdlora.BDLoRA(base, 4, blocks=2, **s),
    "DEFT": lambda base, **s: deft.DEFT(base, 3, **s),
    "DeLoRA": lambda base, **s: delora.DeLoRA(base, 3, **s),
    "DoRA": lambda base, **s: dora.DoRA(base, 3, **s),
    "GatedLoRA": lambda base, **s: GatedLoRA(base, 3, **s),
    "GraLoRA": lambda base, **s: gralora.GraLoRA(base, 4, **s),
    "HiRA": lambda base, **s: hira.HiRA(base, 3, **s),
    "KaSA": lambda base, **s: kasa.KaSA(base, 3, **s),
    "LoRA": lambda base, **s: LoRA(base, 3, **s),
    "MiCA": lambda base, **s: MiCA(base, 3, **s),
    "MiSS": lambda base, **s: miss.MiSS(base, 4, **s),
    "MonteCLoRA": lambda base, **s: monteclora.MonteCLoRA(base, 3, noise=0.0, **s),
    "MTL-LoRA": lambda base, **s: MTLLoRA(base, 2, rank=3, **s),
    "PSOFT": lambda base, **s: psoft.PSOFT(base, 4, **s),
    "QA-LoRA": lambda base, **s: qalora.QALoRA(base, 3, group=4, **s),
    "RandLoRA": alone(randlora, rank=3),
    "Uni-LoRA": alone(unilora, rank=2, length=16),
    "VB-LoRA": alone(vblora, vectors=5, length=2, rank=3),
    "VeLoRA": lambda base, **s: velora.VeLoRA(base, rank=3, groups=4, **s),
    "VeRA": alone(vera, rank=5),
}
OF_EMBEDDINGS = [
    name for name in METHODS if name not in ("BD-LoRA", "GraLoRA", "MiSS", "QA-LoRA", "VeLoRA", "GatedLoRA")
]


def made(name, layer, dropout):
    torch.manual_seed(0)
    adapter = METHODS[name](layer, dropout=dropout)
    stir(trained(adapter).values())
    if hasattr(adapter, "ids"):
        adapter.ids = torch.tensor([0, 1, 0])
    return adapter


@pytest.mark.parametrize("name", METHODS)
def test_dropout_falls_in_training_alone(name):
    layer, x = nn.Linear(12, 8), torch.randn(3, 5, 12)
    without, dropped = made(name, layer, 0.0), made(name, layer, 0.5)
    with torch.no_grad():
        assert torch.equal(without.eval()(x), dropped.eval()(x))
        assert torch.allclose(without.train()(x), without.eval()(x), atol=1e-5)
        assert not torch.allclose(dropped.train()(x), dropped(x), atol=1e-4), "drawn anew each time"


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_a_look_up_is_not_dropped(name):
    layer, x = nn.Embedding(12, 8), torch.randint(0, 12, (3, 5))
    dropped = made(name, layer, 0.5)
    with torch.no_grad():
        assert torch.allclose(dropped.train()(x), dropped.eval()(x), atol=1e-5)
