"""Rules of combination where oracles do not look: half precision, votes, whole numbers."""

import pytest
import torch
from hosts import stir
from torch import nn

from peft_from_scratch import LoRA, inject, trained
from peft_from_scratch.combine.arithmetic import add, combine, task_vector
from peft_from_scratch.combine.dare import drop
from peft_from_scratch.combine.intruders import intruders, reduce_intruders
from peft_from_scratch.combine.loras import inject_loras, low_rank
from peft_from_scratch.combine.soups import greedy_soup, soup
from peft_from_scratch.combine.ties import elect, ties
from peft_from_scratch.combine.to_lora import change_of, rank_for, to_lora


def test_a_vote_by_heads_takes_the_positive_side_where_it_is_even_and_keeps_the_dtype():
    changes = torch.tensor([[2.0, -3.0, 1.0], [-5.0, -1.0, 1.0]], dtype=torch.bfloat16)
    sign = elect(changes, "frequency")
    assert sign.dtype == torch.bfloat16 and sign.tolist() == [1, -1, 1]
    assert ties(changes, torch.ones(2), density=1.0).dtype == torch.bfloat16


def test_a_soup_of_one_is_that_one_and_a_greedy_soup_takes_what_is_no_worse():
    one, other = ({"w": torch.tensor([v])} for v in (1.0, 3.0))
    assert torch.equal(soup([one])["w"], one["w"])
    assert greedy_soup([one], lambda s: 0.0)[1] == [0]
    assert greedy_soup([one, other], lambda s: 0.0)[1] == [0, 1], "as good is good enough"
    scores = {1.0: 1.0, 2.0: 0.5, 3.0: 0.0}
    assert greedy_soup([one, other], lambda s: scores[s["w"].item()])[1] == [0], "better than the second is not enough"


def test_what_is_combined_hangs_on_no_graph():
    state, start = ({"w": torch.randn(3, requires_grad=True)} for _ in range(2))
    change = task_vector(state, start)
    found = [change, add(start, change), add(start, {})]
    found += [combine([state, start], [1.0, 1.0], whole=whole) for whole in (True, False)]
    for part in (state, start):
        found += [task_vector(part, {"w": torch.zeros(3)}), task_vector({"w": torch.zeros(3)}, part)]
    assert not any(t.requires_grad for made in found for t in made.values())


def test_each_tensor_keeps_its_dtype():
    state = {"half": torch.ones(2, dtype=torch.bfloat16), "full": torch.ones(3)}
    dtypes = {k: t.dtype for k, t in state.items()}
    for whole in (True, False):
        assert {k: t.dtype for k, t in combine([state, state], [0.5, 0.5], whole=whole).items()} == dtypes
    full = {k: t.float() for k, t in state.items()}
    assert {k: t.dtype for k, t in add(state, full).items()} == dtypes


def test_changes_of_different_models_are_refused_by_name():
    one, two = {"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2)}
    for wrong in (lambda: task_vector(one, two), lambda: combine([two, one], [1.0, 1.0])):
        with pytest.raises(ValueError, match="of 1 tensors: b"):
            wrong()


@pytest.mark.parametrize("density", [0.0, 1.5])
def test_dropping_needs_a_share_to_keep(density):
    with pytest.raises(ValueError, match="share of values to keep"):
        drop(torch.ones(3), density)


def test_a_change_is_cut_to_any_rank_that_it_has_in_its_own_dtype():
    for rank in (1, 4):
        assert len(low_rank(torch.randn(4, 6), rank).A) == rank
    for rank in (0, 5, 6):
        with pytest.raises(ValueError, match="rank 1 to 4"):
            low_rank(torch.randn(4, 6), rank)
    for dtype in (torch.bfloat16, torch.float64):
        made = low_rank(torch.randn(4, 6).to(dtype), 2)
        assert made.A.dtype == made.B.dtype == dtype


def test_training_an_injected_set_leaves_the_set_as_it_was():
    set_ = {"0": low_rank(torch.randn(8, 12), 2)}
    A, B = set_["0"].A.clone(), set_["0"].B.clone()
    stir(trained(inject_loras(nn.Sequential(nn.Linear(12, 8)), set_)).values())
    assert torch.equal(set_["0"].A, A) and torch.equal(set_["0"].B, B)


def orthogonal(n):
    return torch.linalg.qr(torch.randn(n, n))[0]


def test_intruders_are_looked_for_in_the_changed_weight():
    """W + ΔW is made with known directions; W has those of the axes."""
    U, W = orthogonal(6), torch.diag(torch.tensor([6.0, 5, 4, 3, 2, 1]))
    U[:, 4:], U[4:] = 0, 0
    U[4, 4] = U[5, 5] = 1  # two of the axes stay
    U[:4, :4] = orthogonal(4)
    changed = U @ torch.diag(torch.tensor([9.0, 8, 7, 6, 5, 4])) @ orthogonal(6)
    wanted = (U.abs().amax(0) < 0.9).nonzero().flatten().tolist()
    assert wanted and {4, 5}.isdisjoint(wanted)
    assert intruders(W, changed - W, below=0.9).tolist() == wanted
    assert not len(intruders(W, torch.zeros(6, 6), below=0.99))
    assert len(intruders(W, changed - W, below=1.0)) >= len(wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_intruders_are_kept_taken_out_or_in_between_and_hang_on_no_graph(dtype):
    model = inject(nn.Sequential(nn.Linear(12, 8)).to(dtype), {"0": lambda base: LoRA(base, rank=2)})
    stir(trained(model).values())
    whole = model[0].change()
    for keep, close in ((1.0, True), (0.0, False)):
        (found,) = reduce_intruders(model, keep=keep).values()
        assert not (found.A.requires_grad or found.B.requires_grad)
        assert torch.allclose(found.B @ found.A, whole, atol=1e-5) == close
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="from 0 to 1"):
            reduce_intruders(model, keep=wrong)


def test_the_rank_for_a_share_of_the_energy_is_the_smallest_that_holds_it():
    for values, energy, rank in [
        ([2, 1, 0, 0], 1.0, 2),
        ([2, 1, 0, 0], 0.5, 1),
        ([3, 2, 1], 0.99, 3),
        ([3, 2, 1], 0.9, 2),
    ]:
        change = torch.diag(torch.tensor(values, dtype=torch.float32))
        assert rank_for(change, energy) == rank_for(change.bfloat16(), energy) == rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_converted_is_the_change_and_not_a_difference_of_rounded_weights(dtype):
    model = inject(nn.Sequential(nn.Linear(12, 8)).to(dtype), {"0": lambda base: LoRA(base, rank=2)})
    stir(trained(model).values(), std=0.01)
    change = change_of(model[0])
    assert change.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(change, model[0].change(), rtol=1e-5, atol=1e-9)


def test_a_share_of_the_energy_goes_from_above_nothing_to_all():
    model = inject(nn.Sequential(nn.Linear(12, 8)), {"0": lambda base: LoRA(base, rank=2)})
    stir(trained(model).values())
    assert len(to_lora(model, 1.0)["0"].A) >= 2
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="share of the energy"):
            to_lora(model, wrong)
