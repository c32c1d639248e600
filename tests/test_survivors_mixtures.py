"""Mixtures of trained LoRAs: what passes gradients, what is saved, what does not fit."""

import pytest
import torch
from hosts import batch, host
from torch import nn

from peft_from_scratch import adapters, inject
from peft_from_scratch.methods.mixture.arrow import Arrow, direction, subtract
from peft_from_scratch.methods.mixture.experts import Expert
from peft_from_scratch.methods.mixture.gate import Gate
from peft_from_scratch.methods.mixture.xlora import XLoRA, XLoRABody, xlora


def expert(rank=2, d_in=6, d_out=4, dtype=torch.float32):
    return Expert(torch.randn(rank, d_in, dtype=dtype), torch.randn(d_out, rank, dtype=dtype), 0.5)


def test_arrow_passes_exact_gradients_on_through_experts_and_gate():
    layer = nn.Linear(6, 4).double()
    adapter = Arrow(layer, [expert(dtype=torch.float64) for _ in range(3)], top_k=2)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(adapter, x)


def test_arrow_s_directions_are_in_its_file_and_hang_on_no_graph():
    adapter = Arrow(nn.Linear(6, 4), [expert() for _ in range(3)])
    assert "v" in adapter.own_state(), "they may be another library's"
    A, B, _ = expert()
    assert not direction(A.requires_grad_(), B.requires_grad_()).requires_grad


@pytest.mark.parametrize("odd", [expert(rank=3), expert(d_in=5), expert(d_out=3)])
def test_factors_are_subtracted_only_where_every_general_expert_fits(odd):
    fits = {"site": expert()}
    assert len(subtract([fits], [{"site": expert()}])) == 1
    with pytest.raises(ValueError, match="of one rank"):
        subtract([fits], [{"site": expert()}, {"site": odd}])


def gated(dtype=torch.float32):
    plain = host("llama").to(dtype)
    sites = [name for name, m in plain.named_modules() if name.endswith("q_proj")]
    sets = [{site: expert(d_in=32, d_out=32, dtype=dtype) for site in sites} for _ in range(2)]
    return inject(plain, xlora(plain, r".*\.q_proj", sets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gate_of_xlora_is_as_precise_as_the_model_which_keeps_no_cache_and_has_no_merge(dtype):
    model = gated(dtype)
    body = next(a for _, a in adapters(model) if isinstance(a, XLoRABody))
    assert {p.dtype for p in body.head.parameters()} == {dtype}
    ids = batch("llama")["input_ids"]
    with torch.no_grad():
        assert model(input_ids=ids, use_cache=True).past_key_values is None
    with pytest.raises(NotImplementedError, match="anew for each token"):
        body.merged()


def test_a_site_of_xlora_without_a_gate_is_the_base_for_gradients_too():
    layer, x = nn.Linear(6, 4), torch.randn(1, 3, 6, requires_grad=True)
    y = XLoRA(layer, [expert()], Gate())(x)
    assert torch.equal(y, layer(x))
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.autograd.grad(layer(x).sum(), x)[0])
