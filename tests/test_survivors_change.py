"""ΔW itself: what a penalty or a figure of the change asks an adapter for."""

import pytest
from hosts import stir
from test_contract import TABLE, made

from peft_from_scratch import LoRA, trained
from peft_from_scratch.methods.parts import Added

BESIDE = {"b", "m", "p", "q", "gate.w", "gate.b"}  # trained, and no part of ΔW: bias, magnitude, noise, gate


@pytest.mark.parametrize("method", TABLE)
def test_a_penalty_on_the_change_reaches_all_that_makes_it(method):
    model, *_ = made(method, "Linear")
    if not isinstance(model.layer, LoRA | Added):
        pytest.skip("does not apply: it has no ΔW")
    stir(trained(model).values())
    change = model.layer.change()
    assert change.shape == (8, 12)
    change.square().sum().backward()
    own = {k: p for k, p in model.layer.named_parameters() if p.requires_grad}
    assert {k for k, p in own.items() if p.grad is None or not p.grad.any()} <= BESIDE
