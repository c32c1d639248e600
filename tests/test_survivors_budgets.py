"""Allocators of a budget: what a threshold keeps, when a schedule acts, and whom it freezes."""

import pytest
import torch
from torch import nn

from peft_from_scratch import inject
from peft_from_scratch.methods.lowrank.adamss import AdaMSS, SubspaceAllocator, main_directions


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 4), (0.1, 3), (0.2, 2), (0.5, 1), (0.99, 1), (1.0, 1)])
def test_the_threshold_is_a_share_of_the_largest_squared_singular_value(threshold, kept):
    """Singular values 4, 2, 1.5 and 1: their squares are 1, 0.25, 0.14 and 0.0625 of the largest."""
    U = torch.diag(torch.tensor([4.0, 2.0, 1.5, 1.0]))
    assert len(main_directions(U, 9, threshold)) == kept
    assert len(main_directions(U, 2, threshold)) == min(kept, 2)


def adapted():
    clusters = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    model = inject(nn.Sequential(nn.Linear(12, 8)), {"0": lambda W: AdaMSS(W, rank=6, subspaces=3, clusters=clusters)})
    for B in model[0].B:
        nn.init.normal_(B)
    return model


def run(model, allocator, steps):
    training = []
    for _ in range(steps):
        model.zero_grad()
        model(torch.randn(5, 12)).square().sum().backward()
        allocator.step()
        training.append(sum(A.requires_grad for A in model[0].A))
    return training


@pytest.mark.parametrize(
    "settings", [dict(target=0), dict(target=4), dict(target=1, start=5, end=5), dict(target=1, start=6, end=5)]
)
def test_a_schedule_that_cannot_be(settings):
    with pytest.raises(ValueError, match="start before end"):
        SubspaceAllocator(adapted(), **settings)


@pytest.mark.parametrize("target", [1, 3])
def test_a_schedule_reaches_its_target_at_its_last_step(target):
    model = adapted()
    training = run(model, SubspaceAllocator(model, target, start=1, end=4, every=1), 7)
    assert training[0] == training[1] == 3, "nothing before the start, and at it the whole"
    assert training[3] >= training[4] == target and training[-1] == target


def test_what_is_frozen_loses_its_gradient_so_that_no_optimiser_moves_it():
    model = adapted()
    run(model, SubspaceAllocator(model, 1, start=1, end=4, every=1), 5)
    frozen = [p for p in (*model[0].A, *model[0].B) if not p.requires_grad]
    assert len(frozen) == 4 and all(p.grad is None for p in frozen)
    assert all(p.grad is not None for p in (*model[0].A, *model[0].B) if p.requires_grad)


def test_a_state_that_is_put_back_freezes_and_thaws_and_leaves_living_gradients():
    model = adapted()
    allocator = SubspaceAllocator(model, 1, start=1, end=4, every=1)
    start = allocator.state_dict()
    run(model, allocator, 5)
    pruned = allocator.state_dict()
    allocator.load_state_dict(start)
    assert all(p.requires_grad for p in (*model[0].A, *model[0].B))
    model(torch.randn(5, 12)).square().sum().backward()
    allocator.load_state_dict(pruned)
    assert all((p.grad is not None) == p.requires_grad for p in (*model[0].A, *model[0].B))


def test_only_pairs_that_were_both_measured_compete_and_size_is_no_merit():
    """The mean importance counts: a pair with more numbers is not better for it."""
    model = adapted()
    allocator = SubspaceAllocator(model, 1, start=0, end=9, every=100)
    for value, (A, B) in zip((1.0, 3.0, 2.0), zip(model[0].A, model[0].B, strict=True), strict=True):
        allocator.smooth[A] = torch.full_like(A, value), torch.ones_like(A)
        allocator.smooth[B] = torch.full_like(B, value), torch.ones_like(B)
    allocator.keep(1)
    assert [A.requires_grad for A in model[0].A] == [False, True, False]
    del allocator.smooth[model[0].A[1]]
    allocator.keep(0)
    assert [A.requires_grad for A in model[0].A] == [False, True, False], "half a pair is no candidate"
