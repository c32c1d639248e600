"""How adapters of blocks share out what they are given: S4's groups and budgets, at their edges."""

import pytest
import torch
from hosts import host
from transformers import LlamaConfig, LlamaForCausalLM

from peft_from_scratch import adapter_state, inject, trained
from peft_from_scratch.methods.adapters import adapter_fusion, s4
from peft_from_scratch.methods.adapters.pfeiffer import pfeiffer
from peft_from_scratch.methods.adapters.places import blocks

D = 24  # the width of the tiny BERT


@pytest.mark.parametrize(
    ("pattern", "n_blocks", "sizes"),
    [
        ("uniform", 12, [3, 3, 3, 3]),
        ("increasing", 20, [2, 4, 6, 8]),
        ("decreasing", 20, [8, 6, 4, 2]),
        ("spindle", 12, [2, 4, 4, 2]),
        ("bottleneck", 28, [8, 6, 6, 8]),
        ("spindle", 3, [3]),
    ],
)
def test_sizes_of_groups_follow_the_pattern(pattern, n_blocks, sizes):
    assert s4.group_sizes(n_blocks, len(sizes), pattern) == sizes


def numbers(letters, budget):
    """What one block of the tiny BERT trains."""
    model = host("bert")
    model = inject(model, s4.s4(model, (letters,), budget=budget))
    return sum(p.numel() for p in trained(model).values()) // len(blocks(model))


@pytest.mark.parametrize(("letters", "one", "fixed"), [("A", 2 * D + 1, D), ("L", 4 * D, 0)])
def test_a_part_is_as_large_as_its_budget_allows_and_never_nothing(letters, one, fixed):
    fits = 60 * one + fixed
    assert numbers(letters, fits) == fits
    assert numbers(letters, fits - 1) == fits - one
    assert numbers(letters, 0) == one + fixed


def test_a_prefix_has_a_token_at_least():
    model = host("llama")
    per_token = s4.tokens_width(model)
    lengths = [s4.of_block(model, blocks(model)[0], "P", budget)[1] for budget in (0, 3 * per_token - 1, 3 * per_token)]
    assert lengths == [1, 2, 3]


def test_the_usual_budget_is_half_a_percent_of_the_model(monkeypatch):
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, vocab_size=5000
    )
    model, asked = LlamaForCausalLM(config), []
    monkeypatch.setattr(s4, "of_block", lambda model, block, letters, budget: asked.append(budget) or ({}, 0))
    s4.s4(model, ("L",))
    assert asked == [int(sum(p.numel() for p in model.parameters()) * 0.005 / 2)] * 2


def test_the_penalty_of_a_fusion_is_the_squared_distance_of_each_V_from_the_identity():
    model = host("bert")
    states = [adapter_state(inject(host("bert"), pfeiffer(host("bert"), size=2)))]
    model = inject(model, adapter_fusion.fusion(model, states))
    for module in model.modules():
        if isinstance(module, adapter_fusion.Fused):
            module.V.data = torch.eye(D) + 0.5
    assert adapter_fusion.penalty(model, 0.1).item() == pytest.approx(0.1 * len(blocks(model)) * D * D * 0.25)
