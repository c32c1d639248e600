"""Where each method begins: drawn from the distribution that its page names, not just not from zero."""

import math

import pytest
import torch
from hosts import host
from torch import nn

from peft_from_scratch import LoRA
from peft_from_scratch.methods.adapters.adapter_fusion import Fused
from peft_from_scratch.methods.adapters.bottleneck import Bottleneck
from peft_from_scratch.methods.adapters.compacter import KroneckerSum, Rule
from peft_from_scratch.methods.adapters.unipelt import Gate
from peft_from_scratch.methods.lowrank import (
    adalora,
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
    monteclora,
    peanut,
    qalora,
    randlora,
    unilora,
    vblora,
    velora,
    vera,
)
from peft_from_scratch.methods.lowrank.starts.gaussian import gaussian
from peft_from_scratch.methods.mixture.lily import Lily
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA
from peft_from_scratch.methods.mixture.poly import Poly
from peft_from_scratch.methods.prompts.body import body_of
from peft_from_scratch.methods.prompts.cartridge import Cartridge
from peft_from_scratch.methods.prompts.multitask import MultitaskPrompt
from peft_from_scratch.methods.prompts.p_tuning import PTuning
from peft_from_scratch.methods.prompts.prefix_tuning import PrefixTuning
from peft_from_scratch.methods.prompts.prompt_tuning import PromptTuning
from peft_from_scratch.methods.representation.lst import drawn
from peft_from_scratch.methods.representation.reft import NoReFT
from peft_from_scratch.methods.rotation.hra import HRA
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.transform.c3a import C3A
from peft_from_scratch.methods.transform.fourierft import FourierFT

LAYER, TABLE, WIDE = nn.Linear(64, 48), nn.Embedding(64, 48), nn.Linear(64, 625)


def alone(page, **settings):
    """A page whose adapters share something, for a model of one layer."""
    return page.shared(LAYER, "", **settings)(LAYER)


def bases(page, **settings):
    """The frozen matrices that a page's adapters share."""
    return next(m for m in alone(page, **settings).modules() if isinstance(getattr(m, "A", None), torch.Tensor))


# name: (a drawn tensor, least, largest): uniform between the two.
UNIFORM = {
    "BD-LoRA, A in blocks": (lambda: bdlora.BDLoRA(LAYER, 64, blocks=4, diagonal="A").A, -1 / 4, 1 / 4),
    "bottleneck, as a linear layer": (lambda: Bottleneck(LAYER, 64, std=None, d_in=64).D, -1 / 8, 1 / 8),
    "C3A, kaiming": (lambda: C3A(LAYER, 1, start="kaiming").w, -1 / 8, 1 / 8),
    "C3A, xavier": (lambda: C3A(LAYER, 1, start="xavier").w, -math.sqrt(6 / 112), math.sqrt(6 / 112)),
    "Compacter, s": (lambda: KroneckerSum(LAYER, Rule(LAYER, 16), 64, 2048).s, -math.sqrt(6 / 129), math.sqrt(6 / 129)),
    "DeLoRA, A": (lambda: delora.DeLoRA(LAYER, 32).A, -1 / 8, 1 / 8),
    "DeLoRA, B": (lambda: delora.DeLoRA(LAYER, 25).B, -1 / 5, 1 / 5),
    "GLoRA": (lambda: glora.Support(LAYER, "lora", 48, 64, 32).right, -1 / 8, 1 / 8),
    "GraLoRA": (lambda: gralora.GraLoRA(LAYER, 32, blocks=4).A, -1 / 4, 1 / 4),
    "GraLoRA, hybrid": (lambda: gralora.GraLoRA(LAYER, 32, blocks=4, hybrid=32).hybrid_A, -1 / 8, 1 / 8),
    "HiRA": (lambda: hira.HiRA(LAYER, 32).A, -1 / 8, 1 / 8),
    "HRA": (lambda: HRA(LAYER, 48).U[:, ::2], -1 / math.sqrt(24), 1 / math.sqrt(24)),
    "KronA": (lambda: krona.KronA(LAYER, (48, 64)).A, -1 / 8, 1 / 8),
    "ladder side tuning": (lambda: drawn(LAYER, 48, 64), -1 / 8, 1 / 8),
    "Lily, A": (lambda: Lily(LAYER, 32).A.value, -1 / 8, 1 / 8),
    "Lily, router": (lambda: Lily(LAYER, 25, n_experts=50).R, -1 / 5, 1 / 5),
    "LoHa": (lambda: loha.LoHa(LAYER, 25).A1, -1 / 8, 1 / 8),
    "LoRA": (lambda: LoRA(LAYER, 32).A, -1 / 8, 1 / 8),
    "MonteCLoRA, p": (lambda: monteclora.MonteCLoRA(LAYER, rank=2000).p, 0, 1),
    "MonteCLoRA, q": (lambda: monteclora.MonteCLoRA(LAYER, samples=2000).q, 0, 1),
    "MTL-LoRA, A": (lambda: MTLLoRA(LAYER, 2, rank=32).A, -1 / 8, 1 / 8),
    "MTL-LoRA, w": (lambda: MTLLoRA(LAYER, 40, n_up=25).w, -1 / 5, 1 / 5),
    "PEANuT, A": (lambda: peanut.PEANuT(LAYER, 32).A, -1 / math.sqrt(48), 1 / math.sqrt(48)),
    "PEANuT, E": (lambda: peanut.PEANuT(LAYER, 36, depth=1).E[0], -1 / 6, 1 / 6),
    "PEANuT, D": (lambda: peanut.PEANuT(LAYER, 36, depth=1).D[0], -1 / 6, 1 / 6),
    "Poly, A": (lambda: Poly(LAYER, 2, n_splits=4).A, -1 / 4, 1 / 4),
    "Poly, Z": (lambda: Poly(LAYER, 100, n_splits=4).Z, -1e-3, 1e-3),
    "prompt tuning": (lambda: PromptTuning(body_of(host("bert")), 200).P, -0.5, 0.5),
    "QA-LoRA": (lambda: qalora.QALoRA(LAYER, rank=64, group=4).A, -1 / 4, 1 / 4),
    "RandLoRA, A": (lambda: bases(randlora, rank=32).A, -math.sqrt(3), math.sqrt(3)),  # of deviation 1
    "ReFT, W": (lambda: NoReFT(LAYER, 32, random_start=True).W, -1 / math.sqrt(48), 1 / math.sqrt(48)),
    "ReFT, b": (lambda: NoReFT(WIDE, 625, random_start=True).b, -1 / 25, 1 / 25),
    "super-tuning": (lambda: SuperTuning(LAYER, rank=32).A, -1 / 8, 1 / 8),
    "Uni-LoRA": (lambda: alone(unilora, rank=64, length=1500, bound=0.3).vector.theta, -0.3, 0.3),
    "VB-LoRA, vectors": (lambda: alone(vblora, vectors=200, length=16, bound=0.3).bank.vectors, -0.3, 0.3),
    "VeRA, A": (lambda: bases(vera, rank=32).A, -math.sqrt(6 / 64), math.sqrt(6 / 64)),
}
# name: (a drawn tensor, deviation): normal around 0.
NORMAL = {
    "AdaLoRA, P": (lambda: adalora.AdaLoRA(LAYER, 32).P, 0.02),
    "AdaLoRA, Q": (lambda: adalora.AdaLoRA(LAYER, 32).Q, 0.02),
    "C3A": (lambda: C3A(LAYER, 1, start="gaussian").w, 1.0),
    "cartridge": (lambda: Cartridge(body_of(host("gpt2")), 100, std=0.7).Z, 0.7),
    "Compacter, A": (lambda: Rule(LAYER, 12).A, 1e-4),
    "DEFT": (lambda: deft.DEFT(LAYER, 32).P, 0.02),
    "FourierFT": (lambda: FourierFT(LAYER, 2000).c, 1.0),
    "fusion, Q": (lambda: Fused(LAYER, [Bottleneck(LAYER, 2)]).Q, 0.02),
    "fusion, K": (lambda: Fused(LAYER, [Bottleneck(LAYER, 2)]).K, 0.02),
    "HiRA of an embedding": (lambda: hira.HiRA(TABLE, 32).B, 1.0),
    "KaSA": (lambda: kasa.KaSA(nn.Linear(620, 620), 600).d, 1.0),
    "LoRA of an embedding": (lambda: LoRA(TABLE, 32).B, 1.0),
    "LoRA, Gaussian": (lambda: LoRA(LAYER, 32, start=gaussian).A, 1 / 32),
    "LoRA-XS": (lambda: loraxs.LoRAXS(LAYER, 40).R, 1e-5),
    "multitask prompts, U": (lambda: MultitaskPrompt(body_of(host("bert")), 8, 50, 4).U, 0.02),
    "multitask prompts, V": (lambda: MultitaskPrompt(body_of(host("bert")), 32, 2, 4).V, 0.02),
    "P-tuning": (lambda: PTuning(body_of(host("bert")), 200).E, 1.0),
    "prefix tuning": (lambda: PrefixTuning(body_of(host("gpt2")), 100, std=0.3).P, 0.3),
    "UniPELT, gate": (lambda: Gate(LAYER, 1200).w, 0.02),
    "VB-LoRA, A": (lambda: alone(vblora, vectors=50, length=16, rank=8, logits_std=0.3).logits_A, 0.3),
    "VB-LoRA, B": (lambda: alone(vblora, vectors=50, length=16, rank=8, logits_std=0.3).logits_B, 0.3),
}
ZERO = {
    "BD-LoRA": lambda: bdlora.BDLoRA(LAYER, 8, blocks=4).B,
    "bottleneck's biases": lambda: torch.cat([Bottleneck(LAYER, 4).b_D, Bottleneck(LAYER, 4).b_U]),
    "C3A": lambda: C3A(LAYER, 16).w,
    "Compacter's bias": lambda: KroneckerSum(LAYER, Rule(LAYER, 4), 64, 48).b,
    "fusion's biases": lambda: torch.cat([Fused(LAYER, [Bottleneck(LAYER, 2)], bias=True).b_Q] * 2),
    "LoRA's bias": lambda: LoRA(LAYER, 4, bias=True).b,
    "ReFT's b": lambda: NoReFT(LAYER, 4).b,
    "UniPELT's bias": lambda: Gate(LAYER, 12).b,
}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_starts(name):
    make, least, largest = UNIFORM[name]
    drawn = make().detach()
    width = largest - least
    assert drawn.numel() >= 500 and least <= drawn.min() <= drawn.max() <= largest
    assert drawn.min() < least + 0.02 * width and drawn.max() > largest - 0.02 * width
    assert drawn.std().item() == pytest.approx(width / math.sqrt(12), rel=0.1)


@pytest.mark.parametrize("name", NORMAL)
def test_normal_starts(name):
    make, deviation = NORMAL[name]
    drawn = make().detach()
    assert drawn.numel() >= 500 and drawn.std().item() == pytest.approx(deviation, rel=0.1)
    assert abs(drawn.mean()) < 0.15 * deviation
    assert (drawn.abs() < deviation).float().mean() == pytest.approx(0.683, abs=0.05)


@pytest.mark.parametrize("name", ZERO)
def test_zero_starts(name):
    assert not ZERO[name]().any()


def test_a_bottleneck_is_cut_at_two_deviations():
    for W in (made := Bottleneck(LAYER, 40, std=0.3)).D, made.U:
        assert 0.57 < W.abs().max() <= 0.6 and W.std().item() == pytest.approx(0.88 * 0.3, rel=0.05)


def test_a_fusion_begins_by_passing_on_what_it_is_given():
    V = Fused(LAYER, [Bottleneck(LAYER, 2)]).V
    assert torch.allclose(V, torch.eye(48) + 1e-6 * (1 - torch.eye(48)))


def test_a_random_direction_of_velora_has_length_one_in_each_group():
    v = velora.VeLoRA(LAYER, rank=2, groups=3, update="never").v
    assert v.shape == (22,) and v.norm().item() == pytest.approx(1) and v.unique().numel() == 22


def test_tasks_begin_alike():
    assert torch.equal(MTLLoRA(LAYER, 3, rank=4).Lambda, torch.ones(3, 4))
    assert torch.equal(MTLLoRA(LAYER, 3, rank=4, diagonal=False).Lambda, torch.eye(4).expand(3, 4, 4))


def test_lokr_begins_with_one_factor_at_zero():
    adapter = lokr.LoKr(LAYER, rank=2, factor=4)
    assert sum(not p.any() for p in adapter.parameters() if p.requires_grad) == 1
