"""What the low-rank papers say and the contract does not ask: which form is taken, seeds, what is saved."""

import math

import pytest
import torch
from hosts import stir
from torch import nn

from peft_from_scratch import LoRA, adapters, inject, trained
from peft_from_scratch.methods.lowrank import (
    adalora,
    adamss,
    kasa,
    loha,
    lokr,
    loraxs,
    monteclora,
    qalora,
    said,
    velora,
)
from peft_from_scratch.methods.lowrank.importance import Importance
from peft_from_scratch.methods.lowrank.starts import corda, eva, lora_ga
from peft_from_scratch.methods.lowrank.starts.loftq import loftq
from peft_from_scratch.methods.lowrank.starts.pissa import pissa
from peft_from_scratch.methods.mixture import lily
from peft_from_scratch.methods.representation.direft import DiReFT
from peft_from_scratch.methods.rotation import hra
from peft_from_scratch.methods.selective import diff_pruning
from peft_from_scratch.methods.transform.fourierft import FourierFT


class Two(nn.Module):
    """Two layers of different sizes."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.a(x))


def conv(*kernel):
    return nn.Conv2d(4, 8, kernel)


def test_the_start_that_is_taken_off_stays_while_A_and_B_train():
    adapter = LoRA(nn.Linear(12, 8), rank=2, start=pissa)
    A0, B0 = adapter.A0.clone(), adapter.B0.clone()
    stir([adapter.A, adapter.B])
    assert torch.equal(adapter.A0, A0) and torch.equal(adapter.B0, B0)
    assert not (adapter.A0.requires_grad or adapter.B0.requires_grad)


@pytest.mark.parametrize(("kernel", "has_core"), [((1, 1), False), ((1, 2), True), ((2, 1), True), ((3, 3), True)])
def test_tucker_needs_a_kernel_of_more_than_one_pixel(kernel, has_core):
    assert (loha.LoHa(conv(*kernel), rank=2, tucker=True).T1 is not None) == has_core
    assert (lokr.LoKr(conv(*kernel), rank=1, factor=2, tucker=True).T is not None) == has_core


@pytest.mark.parametrize("page", [loha.LoHa, lokr.LoKr])
def test_a_dropped_module_is_the_base_for_gradients_too(page):
    layer = nn.Linear(12, 8)
    adapter = page(layer, rank=2, module_dropout=1.0).train()
    stir(adapter.parameters())
    x = torch.randn(3, 12, requires_grad=True)
    (got,) = torch.autograd.grad(adapter(x).square().sum(), x)
    (wanted,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize(
    ("rank", "factor", "both", "split1", "split2"),
    [
        (2, 2, True, False, True),  # W2 is 4 x 6 and W1 is 2 x 2: a factor splits where the rank is below half its
        (3, 2, True, False, False),  # longer side, 3 and 1
        (1, 4, True, True, True),  # W1 is 2 x 4 or 4 x 4, W2 4 x 3 or 2 x 3
        (1, 4, False, False, True),
        (1, 3, True, True, True),  # W1 is 2 x 3: its longer side decides
        (1, 2, True, False, True),  # half of W1's longer side is not above the rank
    ],
)
def test_lokr_splits_a_factor_where_that_saves(rank, factor, both, split1, split2):
    adapter = lokr.LoKr(nn.Linear(12, 8), rank=rank, factor=factor, decompose_both=both)
    assert (adapter.W1a is not None, adapter.W2a is not None) == (split1, split2)


@pytest.mark.parametrize("zero", ["W1", "W2"])
def test_lokr_starts_with_the_factor_at_zero_that_is_asked_for(zero):
    adapter = lokr.LoKr(nn.Linear(12, 8), rank=1, factor=2, zero=zero)
    assert [not adapter.W1().any(), not adapter.W2().any()] == [zero == "W1", zero == "W2"]


def intrinsic(model, **settings):
    return inject(model, {".*[ab]": said.shared(model, ".*[ab]", **settings)})


def test_an_intrinsic_vector_fits_the_smallest_matrix():
    intrinsic(Two(), numbers=24)
    with pytest.raises(ValueError, match="between 1 and 24"):
        intrinsic(Two(), numbers=25)


def test_each_site_and_each_seed_has_a_projection_of_its_own():
    drawn = []
    for seed in (0, 5):
        drawn += [a.G[:24] for _, a in adapters(intrinsic(Two(), numbers=10, seed=seed))]
    assert all(not torch.equal(p, q) for i, p in enumerate(drawn) for q in drawn[:i])


@pytest.mark.parametrize(("d_in", "d_out", "n"), [(8, 4, 32), (11, 3, 64), (31, 1, 32)])
def test_an_intrinsic_projection_is_no_longer_than_the_next_power_of_two(d_in, d_out, n):
    model = nn.Sequential(nn.Linear(d_in, d_out))
    ((_, adapter),) = adapters(inject(model, {"0": said.shared(model, "0", numbers=5)}))
    assert len(adapter.G) == n
    assert set(adapter.own_state()) == {"vector.z", "layer_scale"}, "the seed says the rest"


def test_importance_is_two_averages_of_two_speeds():
    p = nn.Parameter(torch.tensor([2.0]))
    importance = Importance({"p": p}, betas=(0.5, 0.9))
    mean = change = 0.0
    for g in (1.0, 3.0, -2.0):
        p.grad = torch.tensor([g])
        importance.measure()
        mean = 0.5 * mean + 0.5 * abs(2 * g)
        change = 0.9 * change + 0.1 * abs(abs(2 * g) - mean)
    assert importance.of(p).item() == pytest.approx(mean * change)


def test_a_target_as_large_as_the_rank_prunes_nothing():
    model = inject(Two(), {"a|b": lambda base: adalora.AdaLoRA(base, rank=2)})
    allocator = adalora.RankAllocator(model, target_rank=2, steps=4)
    assert [allocator.budget(t) for t in range(5)] == [4] * 5
    before = [a.Lambda.detach().clone().fill_(1) for _, a in adapters(model)]
    for _, a in adapters(model):
        nn.init.ones_(a.Lambda)
    for _ in range(6):
        model(torch.randn(3, 12)).sum().backward()
        allocator.step()
    assert all(torch.equal(a.Lambda, ones) for (_, a), ones in zip(adapters(model), before, strict=True))


def test_one_step_of_loftq_leaves_the_layer_as_frozen_as_it_was():
    model = Two()
    model.a.weight.requires_grad_(False)
    quantised, _ = loftq(model, "a|b", lambda W: W.round(decimals=1), rank=2, steps=1)
    assert not quantised.a.weight.requires_grad and quantised.b.weight.requires_grad
    assert torch.allclose(quantised.a.weight, model.a.weight.round(decimals=1))
    with pytest.raises(ValueError, match="one step"):
        loftq(model, "a|b", torch.round, steps=0)


def test_lora_of_rank_r_and_its_rank_stabilised_form():
    assert LoRA(nn.Linear(4, 4), rank=4, alpha=8).scale == 2
    assert LoRA(nn.Linear(4, 4), rank=4, alpha=8, rslora=True).scale == 8 / math.sqrt(4)


PENALTIES = {
    "HRA": (lambda layer: hra.HRA(layer, 4), lambda model: hra.orthogonality(model)),
    "KaSA": (lambda layer: kasa.KaSA(layer, rank=3), lambda model: kasa.penalty(model)),
    "AdaLoRA": (lambda layer: adalora.AdaLoRA(layer, 3), lambda model: adalora.penalty(model)),
    "AdaLoRA, released": (lambda layer: adalora.AdaLoRA(layer, 3), lambda model: adalora.penalty(model, released=True)),
    "MonteCLoRA": (lambda layer: monteclora.MonteCLoRA(layer, 3), lambda model: monteclora.penalty(model)),
    "diff pruning": (diff_pruning.DiffPruning, diff_pruning.penalty),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_pulls_and_has_the_precision_of_what_it_pulls(name, dtype):
    make, penalty = PENALTIES[name]
    model = inject(nn.Sequential(nn.Linear(12, 8)).to(dtype), {"0": make})
    stir(trained(model).values())
    value = penalty(model)
    value.backward()
    assert value.dtype == dtype and value > 0
    assert any(p.grad is not None and p.grad.any() for p in trained(model).values())


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda W: kasa.KaSA(W, rank=3), {"U_n", "V_n"}),
        (lambda W: loraxs.LoRAXS(W, rank=3), {"A", "B"}),
        (lambda W: velora.VeLoRA(W, rank=3, groups=4), {"v"}),
        (lambda W: adamss.AdaMSS(W, rank=6, subspaces=3), {"V", "place"}),
    ],
)
def test_what_a_decomposition_or_the_data_gave_is_saved(make, names):
    adapter = make(nn.Linear(12, 8))
    assert names <= adapter.own_state().keys()


def test_a_covariance_that_is_well_conditioned_is_hardly_touched_and_one_that_is_not_is_damped_as_little_as_works():
    fixed, inverse = corda.damped(2 * torch.eye(6, dtype=torch.float64))
    assert torch.allclose(fixed, 2.02 * torch.eye(6, dtype=torch.float64), rtol=1e-12) and inverse.dtype == fixed.dtype
    x = torch.randn(1, 300)
    C = 1e6 * x.T @ x  # of rank one, and large: its inverse asks for more than the first try
    fixed, inverse = corda.damped(C)
    doublings = torch.log2((fixed - C).diagonal().mean() / (0.01 * C.diagonal().mean())).item()
    assert torch.dist(fixed @ inverse, torch.eye(300)) < 0.05
    assert doublings == pytest.approx(round(doublings), abs=0.02) and doublings < 6


class Pairs(nn.Module):
    """Two blocks, each with an up and a down layer of the same shape."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict(dict(up=nn.Linear(8, 8), down=nn.Linear(8, 8))) for _ in range(2))


def sharing(sites):
    model = Pairs()
    model = inject(model, {sites: lily.shared(model, sites, rank=2)})
    return {site: a.B for site, a in adapters(model)}


def test_lily_shares_by_pattern_or_by_the_last_word_of_a_name():
    names = [f"blocks.{i}.{part}" for i in range(2) for part in ("up", "down")]
    by_word = sharing("all-linear")
    assert by_word[names[0]] is by_word[names[2]] and by_word[names[1]] is by_word[names[3]]
    assert by_word[names[0]] is not by_word[names[1]]
    by_pattern = sharing((r".*\.0\..*", r".*\.1\..*"))
    assert by_pattern[names[0]] is by_pattern[names[1]] is not by_pattern[names[2]]


def test_lily_of_a_single_layer():
    model = nn.Sequential(nn.Linear(6, 4))
    inject(model, {"0": lily.shared(model, "0", rank=2)})


def test_a_group_is_summed_in_the_precision_of_the_adapter():
    adapter = qalora.QALoRA(nn.Linear(64, 8).bfloat16(), rank=2, group=32)
    stir([adapter.B])
    x = torch.randn(5, 64).bfloat16()
    assert torch.equal(adapter.learned(x), adapter.learned(x.float()))


@pytest.mark.parametrize("orthonormal", [False, True])
def test_direft_starts_as_its_base(orthonormal):
    adapter = DiReFT(nn.Linear(6, 5), 2, orthonormal=orthonormal)
    x = torch.randn(3, 6)
    assert torch.equal(adapter(x), adapter.base(x)) and not adapter.b.any()
    assert adapter.W.any() != adapter.M.any() or orthonormal, "one factor zero, the other not"


def test_lora_ga_takes_half_of_the_directions_at_most_and_looks_in_full_precision():
    layer = nn.Linear(12, 8).bfloat16()
    gradients = {layer: torch.randn(8, 12).bfloat16()}
    assert lora_ga.lora_ga(gradients)(layer, 4, 2.0).A.dtype == torch.float32
    with pytest.raises(ValueError, match="rank"):
        lora_ga.lora_ga(gradients)(layer, 5, 2.0)
    with pytest.raises(ValueError, match="stable"):
        lora_ga.lora_ga(gradients, scaling="gd", like_peft=True)
    lora_ga.lora_ga(gradients, scaling="gd")


def test_the_penalty_of_montecarlo_samples_is_a_mean_of_divergences_and_a_sum_of_squares():
    def of(q, **settings):
        torch.manual_seed(7)
        model = inject(Two(), {"a|b": lambda W: monteclora.MonteCLoRA(W, rank=2, samples=4)})
        for _, a in adapters(model):
            a.q.data = torch.tensor(q)
        torch.manual_seed(8)
        return monteclora.penalty(model, **settings).item()

    level, one_wins = [0.0] * 4, [60.0, 0.0, 0.0, 0.0]
    assert of(level, weight=0.0) == 0 and of(level, weight=2.0) == pytest.approx(2 * of(level, weight=1.0))
    assert of(one_wins, weight=0.0, concentration=True) == pytest.approx(1, abs=1e-3)
    assert 0.25 <= of(level, weight=0.0, concentration=True) < 0.99


def velora_layer(update):
    adapter = velora.VeLoRA(nn.Linear(12, 8), rank=3, groups=4, update=update).train()
    stir([adapter.B])
    return adapter


def test_the_first_direction_stays_even_where_one_of_its_numbers_is_zero():
    adapter, x = velora_layer("first"), torch.ones(5, 12)
    x[:, ::3] = 0  # the first of each group of three
    adapter(x)
    first = adapter.v.clone()
    adapter(torch.randn(5, 12) + 2)
    assert first[0] == 0 and torch.equal(adapter.v, first)


def test_two_passes_before_one_backward_keep_a_direction_each():
    adapter = velora_layer("each")
    (adapter(torch.randn(5, 12)).sum() + adapter(torch.randn(5, 12) + 1).sum()).backward()
    assert adapter.A.grad.any()


def test_gradients_pass_through_a_compressed_layer_whose_A_is_frozen():
    adapter = velora_layer("first")
    adapter.A.requires_grad_(False)
    x = torch.randn(5, 12, requires_grad=True)
    adapter(x).sum().backward()
    wanted = (adapter.base.weight + adapter.change()).sum(0).expand(5, 12)
    assert torch.allclose(x.grad, wanted, atol=1e-5)


def test_the_damping_doubles_until_the_inverse_is_one(monkeypatch):
    invert, calls = torch.linalg.inv, []

    def fails_twice(M):
        calls.append(M)
        return invert(M) if len(calls) > 2 else torch.zeros_like(M)

    monkeypatch.setattr(torch.linalg, "inv", fails_twice)
    fixed, _ = corda.damped(torch.diag(torch.tensor([1.0, 2.0, 6.0])))
    assert torch.allclose(fixed - torch.diag(torch.tensor([1.0, 2.0, 6.0])), 0.04 * 3 * torch.eye(3), atol=1e-6)


def test_two_layers_that_start_along_the_same_directions_go_their_own_ways():
    start = eva.along(torch.eye(12)[:2])
    one, other = (LoRA(nn.Linear(12, 8), rank=2, start=start) for _ in range(2))
    stir([one.A])
    assert torch.equal(other.A, torch.eye(12)[:2])


def test_eva_with_the_same_rank_everywhere():
    model = Two()
    targets = eva.eva(model, "a|b", [{"x": torch.randn(20, 12)}], rank=2, rho=1.0, keep=lambda batch: None)
    assert sorted(a.rank for _, a in adapters(inject(model, targets))) == [2, 2]


def test_fourier_places_come_from_the_seed_alone():
    assert set(FourierFT(nn.Linear(12, 8), n=5).own_state()) == {"c"}
