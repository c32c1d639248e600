"""LoRA's relatives where the contract does not look: starts that training hides, and budgets at their first and last
step."""

import pytest
import torch
from hosts import stir
from torch import nn

from peft_from_scratch import inject, trained
from peft_from_scratch.methods.adapters import compacter
from peft_from_scratch.methods.lowrank import adamss, alora, delora, gralora, peanut, psoft, randlora, tinylora, unilora
from peft_from_scratch.methods.lowrank.starts import lora_ga
from peft_from_scratch.methods.lowrank.starts.mica import MiCA
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.transform import waveft


def test_super_tuning_with_a_low_rank_term_starts_as_the_base():
    layer, x = nn.Linear(12, 8), torch.randn(3, 12)
    assert torch.equal(SuperTuning(layer, sparsity=0.9, rank=2)(x), layer(x))


def test_each_matrix_of_the_network_that_reads_the_weight_is_drawn():
    adapter = peanut.PEANuT(nn.Linear(12, 8), rank=4, depth=2)
    drawn = [*adapter.E, *adapter.D]
    assert all(0 < M.abs().max() <= 4**-0.5 for M in drawn)
    assert all(not torch.equal(M, N) for i, M in enumerate(drawn) for N in drawn[:i])


def subspaces(**schedule):
    """Three clusters, of one, two and five outputs, and their allocator."""
    clusters = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2])
    model = nn.Sequential(nn.Linear(12, 8))
    model = inject(model, {"0": lambda base: adamss.AdaMSS(base, rank=4, clusters=clusters)})
    stir(trained(model).values())
    return model, adamss.SubspaceAllocator(model, **schedule)


def step(model, allocator):
    model.zero_grad()
    model(torch.randn(6, 12)).square().sum().backward()
    allocator.step()


def test_importance_is_gathered_from_the_first_step_to_the_last_and_the_last_reaches_the_target():
    model, allocator = subspaces(target=1, start=1, end=3, every=3)
    step(model, allocator)
    assert not allocator.smooth
    step(model, allocator)
    assert allocator.smooth
    step(model, allocator)
    step(model, allocator)
    assert len(trained(model)) == 2, "one A and one B"


@pytest.mark.parametrize("target", [1, 3])
def test_a_budget_may_be_one_subspace_or_all_of_them(target):
    subspaces(target=target, start=0, end=1)


def test_a_frozen_subspace_has_no_gradient_left_for_the_optimiser():
    model, allocator = subspaces(target=1, start=0, end=1, every=1)
    step(model, allocator)
    step(model, allocator)
    frozen = [p for pair in allocator.pairs for p in pair if not p.requires_grad]
    assert len(frozen) == 4 and all(p.grad is None for p in frozen)


def test_a_large_subspace_is_not_more_important_for_its_size():
    model, allocator = subspaces(target=1, start=0, end=1, every=1)
    few, _, many = allocator.pairs
    for pair in allocator.pairs:
        one = 1.5 if pair is few else 1.0
        for p in pair:
            allocator.smooth[p] = torch.full_like(p, one), torch.ones_like(p)
    assert sum(p.numel() for p in many) > 1.5 * sum(p.numel() for p in few)
    allocator.keep(1)
    assert all(p.requires_grad for p in few)


def test_delora_keeps_the_lengths_of_its_weight_s_columns_in_full_precision_and_in_its_file():
    layer = nn.Linear(12, 8).bfloat16()
    adapter = delora.DeLoRA(layer, rank=2)
    assert torch.equal(adapter.own_state()["norms"], layer.weight.float().norm(dim=0))


def test_gralora_takes_vectors_in_any_arrangement():
    adapter, x = gralora.GraLoRA(nn.Linear(12, 8), rank=4, hybrid=1), torch.randn(3, 2, 5, 12)
    stir(adapter.parameters())
    y = adapter(x)
    assert torch.allclose(adapter(x.flatten(0, 2)), y.flatten(0, 2), atol=1e-6)
    assert torch.allclose(adapter(x[0, 0, 0]), y[0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_directions_of_psoft_are_in_its_file_for_their_signs_are_the_machine_s(symmetric):
    layer, x = nn.Linear(12, 8), torch.randn(3, 12)
    one, other = (psoft.PSOFT(layer, rank=3, symmetric=symmetric) for _ in range(2))
    stir([one.Q])
    other.A[1].neg_()
    other.B[:, 1].neg_()
    other.load_state_dict(one.own_state(), strict=False)
    assert torch.equal(other(x), one(x))


def test_randlora_saves_both_bases_where_it_is_asked_to_and_starts_gamma_at_one_over_the_smaller_side():
    layer = nn.Linear(12, 8)
    for saved in (True, False):
        adapter = randlora.shared(layer, "", rank=3, saved=saved)(layer)
        bases = {"bases.A", "bases.B"} if saved else set()
        assert set(adapter.own_state()) == {"Lambda", "Gamma"} | bases
    assert torch.equal(adapter.Gamma, torch.full((3, 8), 1 / 8))


@pytest.mark.parametrize(
    ("make", "own"),
    [
        (lambda base: unilora.shared(base, "", rank=2, length=5)(base), {"vector.theta"}),
        (lambda base: waveft.WaveFT(base, n=5), {"c"}),
    ],
)
def test_what_the_seed_says_is_not_in_the_file(make, own):
    assert set(make(nn.Linear(12, 8)).own_state()) == own


@pytest.mark.parametrize("length", [7, 20, 40, 60])
def test_uni_lora_s_projection_keeps_lengths(length):
    """PᵀP = I, on the entries of θ that are used at all."""
    layer = nn.Linear(12, 8)
    adapter = unilora.shared(layer, "", rank=2, length=length)(layer)
    A, B = adapter.factors()
    used = torch.cat([adapter.index_A.flatten(), adapter.index_B.flatten()]).unique()
    wanted = adapter.vector.theta[used].square().sum()
    assert torch.allclose(A.square().sum() + B.square().sum(), wanted)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_wavelet_coefficient_counts_in_a_layer_of_odd_widths(order):
    adapter = waveft.WaveFT(nn.Linear(7, 5), n=35, order=order)
    change = adapter.change()
    assert change.shape == (5, 7)
    rows = [torch.autograd.grad(entry, adapter.c, retain_graph=True)[0] for entry in change.flatten()]
    assert (torch.stack(rows).norm(dim=0) > 1e-3).all()


def test_an_invocation_may_be_all_of_the_text_or_its_beginning():
    find = alora.Invocation([5, 6]).find
    assert find(torch.tensor([[5, 6]])).tolist() == [0]
    assert find(torch.tensor([[5, 6, 1], [1, 5, 6], [5, 1, 6]])).tolist() == [0, 1, alora.NEVER]
    assert find(torch.tensor([[5]])).tolist() == [alora.NEVER]


def test_tinylora_s_last_group_takes_the_layers_that_are_over_and_its_file_what_is_random():
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(5)])
    model = inject(model, {r"\d": tinylora.shared(model, r"\d", numbers=3, tie=0.6)})
    vectors = [a.vector for a in model]
    assert vectors[0] is vectors[1] is not vectors[2] is vectors[3] is vectors[4]
    assert set(model[0].own_state()) == {"vector.v", "A", "B", "P"}, "signs of singular vectors differ by machine"


def test_compacter_starts_in_glorot_s_range_and_takes_vectors_in_any_arrangement():
    layer = nn.LayerNorm(64)
    drawn = compacter.KroneckerSum(layer, compacter.Rule(layer, 16), 64, 16).t.abs().max()
    assert 1 < drawn <= (6 / (64 / 16 + 1)) ** 0.5
    adapter, h = compacter.Compact(layer, compacter.Rule(layer, 1), 8), torch.randn(3, 5, 64)
    stir(adapter.parameters())
    assert torch.allclose(adapter(h[0]), adapter(h)[0], atol=1e-5)


def test_the_frozen_directions_of_mica_are_in_its_file():
    assert set(MiCA(nn.Linear(12, 8), rank=2).own_state()) == {"A", "B"}, "their signs are the machine's"


@pytest.mark.parametrize("direction", ["ArB2r", "A2rBr", "ArBr", "random"])
def test_lora_ga_gives_A_and_B_different_directions_of_the_gradient(direction):
    layer, G = nn.Linear(12, 8), torch.randn(8, 12)
    A, B, _ = lora_ga.lora_ga({layer: G}, direction, "unit")(layer, 3, 1.0)
    assert A.shape == (3, 12) and B.shape == (8, 3)
    assert torch.allclose(A @ A.T, torch.eye(3), atol=1e-4) and torch.allclose(B.T @ B, torch.eye(3), atol=1e-4)
    assert (B.T @ G @ A.T).abs().max() < 1e-3, "no singular value links them"
