"""What the contract's `merge` leaves open: the adapter's own `merged`, asked directly, in every dtype."""

import copy

import pytest
import torch
from hosts import stir
from test_contract import TABLE, cells, made

from peft_from_scratch import adapter_state, inject, load_adapter, trained


def storages(module):
    tensors = [*module.parameters(), *module.buffers()]
    return {t.untyped_storage().data_ptr() for t in tensors if t.numel()}


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_is_a_frozen_module_of_its_own(method, kind, dtype):
    model, base, x = made(method, kind, dtype=dtype)
    if not TABLE[method].merges:
        pytest.skip("does not apply: no merge")
    stir(trained(model).values())
    y, before = model(x), {k: t.clone() for k, t in model.state_dict().items()}
    merged = model.layer.merged()
    assert not any(p.requires_grad for p in merged.parameters()), "merged is for use: nothing of it trains"
    assert {k: (t.dtype, t.shape) for k, t in merged.state_dict().items()} == {
        k: (t.dtype, t.shape) for k, t in base.layer.state_dict().items()
    }, "a plain layer, stored as the base was"
    assert not storages(merged) & storages(model), "what happens to it must not reach the adapted model"
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())
    assert torch.equal(model(x), y)
    copy.deepcopy(merged)  # a tensor that hangs on a graph cannot be copied


@cells
def test_a_file_holds_all_that_was_drawn(method, kind):
    model, base, x = made(method, kind)
    stir(trained(model).values())
    torch.manual_seed(99)  # another machine, another day: only the base is the same
    again = inject(copy.deepcopy(base), {"layer": TABLE[method].factory}).eval()
    assert torch.equal(load_adapter(again, adapter_state(model))(x), model(x))


@cells
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_trains_is_as_precise_as_its_base_and_float32_at_least(method, kind, dtype):
    model, base, x = made(method, kind, dtype=dtype)
    wanted, own = torch.promote_types(dtype, torch.float32), trained(model)
    copies = {k for k, p in own.items() if any(torch.equal(p, q) for q in base.parameters())}  # these stay as they were
    assert {k: p.dtype for k, p in own.items() if k not in copies and p.dtype != wanted} == {}
    assert model(x).dtype == dtype
