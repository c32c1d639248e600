"""One contract for every method on every kind of layer: see the table in contract.py."""

import copy
import hashlib
import math

import pytest
import torch
from contract import INPUTS, KINDS, SHAPES, load_rows
from hosts import stir
from torch import nn

from peft_from_scratch import adapter_state, inject, load_adapter, merge, remove, save_adapter, trained
from peft_from_scratch.adapter import base_parameters

TABLE = load_rows()
CELLS = [(method, kind) for method in TABLE for kind in KINDS]


class Host(nn.Module):
    """A model that is one layer with something differentiable around it."""

    def __init__(self, kind):
        super().__init__()
        self.layer = KINDS[kind]()

    def forward(self, x):
        return self.layer(x)


def made(method, kind, seed=0, dtype=torch.float32):
    if reason := TABLE[method].not_for.get(kind):
        pytest.skip(f"does not apply: {reason}")
    torch.manual_seed(seed)
    host = Host(kind).to(dtype)
    base = copy.deepcopy(host)
    x = INPUTS[kind](torch.Generator().manual_seed(3))
    x = x.to(dtype) if x.is_floating_point() else x
    return inject(host, {"layer": TABLE[method].factory}).eval(), base, x


def digest(model):
    return hashlib.sha256(
        b"".join(p.detach().float().numpy().tobytes() for p in base_parameters(model).values())
    ).hexdigest()


def in_use(method, model):
    """What trains and takes part in eval mode, in which the tests of gradients run."""
    return [p for k, p in trained(model).items() if k.split(".")[-1] not in TABLE[method].in_training_only]


cells = pytest.mark.parametrize(("method", "kind"), CELLS)


@cells
def test_starts_as_declared(method, kind):
    model, base, x = made(method, kind)
    starts = TABLE[method].starts_as_base
    if isinstance(starts, bool):
        assert torch.equal(model(x), base(x)) == starts
    else:
        assert (model(x) - base(x)).abs().max() <= starts


@cells
def test_count_equals_the_formula(method, kind):
    model, base, _ = made(method, kind)
    d_out, d_in = SHAPES[kind]
    everything = sum(p.numel() for p in base.parameters())
    names = dict(d_out=d_out, d_in=d_in, everything=everything, math=math, min=min, max=max, **TABLE[method].numbers)
    assert sum(p.numel() for p in trained(model).values()) == eval(TABLE[method].count, {}, names)


@cells
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_moves_what_trains_and_nothing_else(method, kind, dtype):
    model, _, x = made(method, kind, dtype=dtype)
    before, frozen = adapter_state(model), digest(model)
    optimizer = torch.optim.AdamW(trained(model).values(), lr=TABLE[method].learning_rate)
    target = torch.randn(model(x).shape, generator=torch.Generator().manual_seed(4))
    model.train()
    losses = []
    for _ in range(3):
        loss = (model(x).float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    moved = {k for k, t in adapter_state(model).items() if not torch.equal(before[k], t)}
    assert moved == set(trained(model)), "what trains must move, and a frozen buffer must not"
    assert digest(model) == frozen
    assert all(torch.tensor(losses).isfinite())


@cells
def test_saved_and_loaded_is_bit_equal(method, kind, tmp_path):
    model, _, x = made(method, kind)
    stir(trained(model).values())
    again, _, _ = made(method, kind)
    load_adapter(again, save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(x), model(x))
    third, _, _ = made(method, kind)
    assert torch.equal(load_adapter(third, adapter_state(model))(x), model(x))


@cells
def test_remove_is_exact(method, kind):
    model, base, x = made(method, kind)
    stir(trained(model).values())
    assert not torch.equal(model(x), base(x))
    model = remove(model)
    assert type(model.layer) is type(base.layer)
    assert torch.equal(model(x), base(x))


@cells
def test_merge(method, kind):
    model, _, x = made(method, kind)
    stir(trained(model).values())
    y = model(x)
    if not TABLE[method].merges:
        with pytest.raises(NotImplementedError, match="cannot be merged"):
            merge(model)
        return
    plain = merge(model)
    assert type(plain.layer) is type(KINDS[kind]())
    assert (plain(x) - y).abs().max() <= 1e-5
    assert torch.equal(model(x), y), "merge must leave the adapted model as it was"


@cells
def test_a_deep_copy_is_independent(method, kind):
    model, _, x = made(method, kind)
    y = model(x)
    twin = copy.deepcopy(model)
    stir(trained(twin).values())
    assert torch.equal(model(x), y) and not torch.equal(twin(x), y)


@cells
def test_bfloat16(method, kind):
    model, base, x = made(method, kind, dtype=torch.bfloat16)
    assert model(x).dtype == torch.bfloat16
    if TABLE[method].starts_as_base is True:
        assert torch.equal(model(x), base(x))


@cells
def test_float64_merges_to_rounding(method, kind):
    model, _, x = made(method, kind, dtype=torch.float64)
    if not TABLE[method].merges:
        pytest.skip("does not apply: no merge")
    stir(trained(model).values())
    assert (merge(model)(x) - model(x)).abs().max() < 1e-13


@cells
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(method, kind, reentrant):
    from torch.utils.checkpoint import checkpoint

    model, _, x = made(method, kind)
    if reentrant and TABLE[method].no_reentrant:
        pytest.skip(f"does not apply: {TABLE[method].no_reentrant}")
    stir(trained(model).values())
    if not x.is_floating_point() and reentrant:
        pytest.skip("does not apply: re-entrant checkpointing needs a float input that wants a gradient")
    used = in_use(method, model)
    plain = torch.autograd.grad(model(x).square().sum(), used)
    x = x.clone().requires_grad_(reentrant)
    checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
    for g, p in zip(plain, used, strict=True):
        assert torch.equal(g, p.grad)


@pytest.mark.compiled
@cells
def test_compiles_in_one_graph(method, kind):
    model, _, x = made(method, kind)
    stir(trained(model).values())
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert (compiled(x) - model(x)).abs().max() <= 1e-6
    compiled(x).square().sum().backward()
    assert all(p.grad is not None for p in in_use(method, model))
