"""What the papers of the selective methods say and the contract does not ask: formulas, starts, edges."""

import copy
import math

import pytest
import torch
from hosts import host, stir
from torch import nn

from peft_from_scratch import adapters, inject, trained
from peft_from_scratch.adapter import outside
from peft_from_scratch.methods.selective import osf
from peft_from_scratch.methods.selective.beft import BEFT
from peft_from_scratch.methods.selective.bitfit import BitFit, bitfit
from peft_from_scratch.methods.selective.diff_pruning import DiffPruning, penalty
from peft_from_scratch.methods.selective.ln_tuning import ln_tuning
from peft_from_scratch.methods.selective.lt_sft import distance, lottery_ticket
from peft_from_scratch.methods.selective.osf import OSF
from peft_from_scratch.methods.selective.shira import SHiRA
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.selective.top_k import layer_stack
from peft_from_scratch.methods.selective.trainable_tokens import TrainableTokens, trainable_tokens


class Two(nn.Module):
    """Two linear layers, one after the other."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(self.a(x))


def test_the_longest_list_is_the_stack_wherever_it_stands():
    model = nn.Module()
    model.long = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    model.short = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    assert layer_stack(model) == "long"


def test_bitfit_needs_a_bias():
    with pytest.raises(ValueError, match="no bias"):
        BitFit(nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize("method", [bitfit, ln_tuning])
def test_a_head_of_several_layers_is_trained_whole(method):
    """RoBERTa's classifier holds two linear layers: their biases are the head's, and a norm in it would be."""
    plain = host("roberta")
    plain.classifier.norm = nn.LayerNorm(24)
    model = method(plain, head="classifier")
    head = [name for name in trained(model) if name.startswith("classifier")]
    assert len(head) == 6 and all(name.startswith("classifier.trained.") for name in head)
    assert any("LayerNorm" in name for name in trained(model))
    assert outside(["score", "score.a", "scores", "a.score"], "score") == ["scores", "a.score"]
    assert outside(["a", "b.c"], None) == ["a", "b.c"] and outside(["a", "b.c", "c"], "a|b") == ["c"]


def test_an_eval_gate_is_where_half_of_the_training_gates_are_above():
    adapter = DiffPruning(nn.Linear(50, 40))
    with torch.no_grad():
        adapter.alpha.fill_(0.3)
        middle = adapter.eval().gate(adapter.alpha)
        drawn = adapter.train().gate(adapter.alpha)
    assert middle.unique().item() == pytest.approx(3 / (1 + math.exp(-0.3)) - 1.5)
    assert (drawn > middle).float().mean() == pytest.approx(0.5, abs=0.03)


def test_the_expected_number_of_open_gates_adds_up_over_layers():
    model = inject(Two(), {"a|b": DiffPruning})
    for _, a in adapters(model):
        nn.init.constant_(a.alpha, 0.4)
    assert penalty(model).item() == pytest.approx((24 + 12) / (1 + math.exp(-0.4)), rel=1e-5)


def test_a_lottery_ticket_where_only_one_layer_moved():
    model = Two()
    start = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.b.weight[1, 2] += 1
    ticket = lottery_ticket(model, start, keep=1 / 36)
    ((site, adapter),) = adapters(ticket)
    assert site == "b" and adapter.values.numel() == 1


def test_a_lottery_ticket_refuses_a_start_that_differs_in_one_shape():
    start = Two().state_dict() | {"b.bias": torch.zeros(7)}
    with pytest.raises(ValueError, match="names or shapes differ"):
        lottery_ticket(Two(), start)


def test_the_distance_is_a_mean_over_what_trains_and_can_be_differentiated():
    model = Two()
    start = copy.deepcopy(model.state_dict())
    stir(model.parameters())
    ticket = lottery_ticket(model, start, keep=0.5)
    values = [a.values for _, a in adapters(ticket)]
    for v in values:
        nn.init.constant_(v, -0.25)
    distance(ticket).backward()
    assert distance(ticket).item() == pytest.approx(0.25)
    n = sum(v.numel() for v in values)
    assert all(torch.allclose(v.grad, torch.full_like(v, -1 / n)) for v in values)


@pytest.mark.parametrize("make", [lambda W: SHiRA(W, 2), lambda W: SuperTuning(W, sparsity=0.0)])
def test_all_weights_may_be_chosen(make):
    assert make(nn.Linear(6, 3)).values.numel() == 18


def test_super_tuning_of_a_single_weight():
    assert SuperTuning(nn.Linear(6, 3), sparsity=0.94).values.numel() == 1


def test_osf_saves_only_what_trains():
    assert set(OSF(nn.Linear(6, 4)).own_state()) == {"U", "S", "V"}


def test_projection_takes_out_the_protected_part_of_the_change_and_nothing_else():
    model = inject(nn.Sequential(nn.Linear(9, 7)), {"0": OSF})
    a = model[0]
    stir([a.U, a.V])
    U, V = a.U.detach().clone(), a.V.detach().clone()
    osf.project(model)
    along_U, along_V = a.U_h @ a.U_h.T, a.V_h.T @ a.V_h
    assert torch.allclose(a.U, a.U0 + (torch.eye(7) - along_U) @ (U - a.U0), atol=1e-6)
    assert torch.allclose(a.V, a.V0 + (V - a.V0) @ (torch.eye(9) - along_V), atol=1e-6)


def test_tokens_of_a_half_precision_table_train_in_full_precision():
    assert TrainableTokens(nn.Embedding(9, 4).bfloat16(), [2]).rows.weight.dtype == torch.float32


def test_an_untied_head_is_left_alone():
    model = trainable_tokens(host("llama"), [3, 5])
    assert [site for site, _ in adapters(model)] == ["model.embed_tokens"]


def test_beft_has_one_number_for_each_output_of_a_norm_and_refuses_a_merge_without_a_bias():
    assert BEFT(nn.LayerNorm(5)).beta.shape == (5,)
    with pytest.raises(NotImplementedError, match="without a bias"):
        BEFT(nn.Linear(3, 2, bias=False)).merged()
