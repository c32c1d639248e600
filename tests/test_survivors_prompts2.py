"""LLaMA-Adapter, several prompts at once, and what a checkpoint of a prompt brings along."""

import pytest
import torch
import torch.nn.functional as F
from hosts import batch, host, stir
from test_prompts import made
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from peft_from_scratch import adapter_state, inject, load_adapter, trained
from peft_from_scratch.methods.adapters.invertible import invertible
from peft_from_scratch.methods.prompts.cartridge import cartridge
from peft_from_scratch.methods.prompts.cpt import cpt, cpt_loss
from peft_from_scratch.methods.prompts.llama_adapter import LlamaAdapter
from peft_from_scratch.methods.prompts.multitask import multitask_prompt, prompt_tasks
from peft_from_scratch.methods.prompts.soft import with_prompt_positions


def test_a_context_comes_with_its_file():
    """What it was made with (its ids, kinds and balls) is state: another context takes all of it over."""
    first, again = host("llama"), host("llama")
    first = inject(first, cpt(first, [7, 8, 9, 10], [1, 2, 3, 4], 0.5)).eval()
    stir(trained(first).values())
    again = inject(again, cpt(again, [11, 12, 13, 14], [4, 3, 2, 1], 0.1)).eval()
    load_adapter(again, adapter_state(first))
    ids = batch("llama")["input_ids"]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, first(input_ids=ids).logits)
        assert torch.equal(cpt_loss(again, ids), cpt_loss(first, ids))


def test_a_cartridge_comes_with_its_sink():
    first, again = host("llama"), host("llama")
    first = inject(first, cartridge(first, 4, text=[7, 8, 9, 10], n_frozen=2)).eval()
    again = inject(again, cartridge(again, 4, n_frozen=2)).eval()
    load_adapter(again, adapter_state(first))
    ids = batch("llama")["input_ids"]
    assert torch.equal(again(input_ids=ids).logits, first(input_ids=ids).logits)


def test_the_loss_of_a_context_is_computed_in_full_precision():
    model, ids = made("CPT", "llama", dtype=torch.bfloat16), batch("llama")["input_ids"]
    with with_prompt_positions(model):
        logits = model(input_ids=ids).logits.float()
    text = F.cross_entropy(logits[:, 4:-1].flatten(0, 1), ids.flatten(), reduction="none")
    context = F.cross_entropy(logits[:, 3], torch.full((3,), 11), reduction="none")
    assert torch.allclose(cpt_loss(model, ids), torch.cat([text, context]).mean(), rtol=1e-5)


def test_two_prompts_of_different_numbers_of_tasks_share_those_that_both_have():
    model = host("bert")
    model = inject(model, multitask_prompt(model, 2, 3), name="few")
    model = inject(model, multitask_prompt(model, 4, 3), name="many")
    with pytest.raises(ValueError, match="from 0 to 1"), prompt_tasks(model, 2):
        pass


def attention(**config):
    config = LlamaConfig(hidden_size=16, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=1, **config)
    return LlamaForCausalLM(config).model.layers[0].self_attn


def called(adapter, x, cos, sin, positional=True):
    given = ((cos, sin),) if positional else ()
    told = {} if positional else {"position_embeddings": (cos, sin)}
    return adapter(x, *given, **told, attention_mask=None)[0]


def given():
    angle = torch.randn(1, 5, 4).repeat(1, 1, 2)
    return torch.randn(2, 5, 16), angle.cos(), angle.sin()


def test_positions_may_come_by_place_or_by_name():
    adapter = LlamaAdapter(attention(), 3)
    nn.init.ones_(adapter.g)
    x, cos, sin = given()
    by_place = called(adapter, x, cos, sin)
    by_name = called(adapter, x, cos, sin, positional=False)
    assert torch.equal(by_place, by_name)


def test_the_prompt_is_attended_with_the_hosts_own_scale():
    """g softmax(scale q kᵀ) v: the host's `scaling`, and 1/√h where a host does not name it."""
    adapter = LlamaAdapter(attention(), 3, project=False)
    adapter.base.forward = lambda x, *args, **kwargs: (torch.zeros_like(x), None)
    nn.init.ones_(adapter.g)
    x, cos, sin = given()
    usual = called(adapter, x, cos, sin)
    adapter.base.scaling = None
    assert torch.allclose(called(adapter, x, cos, sin), usual)
    adapter.base.scaling = 2.0
    sharp = called(adapter, x, cos, sin)
    adapter.base.scaling = None
    nn.init.zeros_(adapter.base.q_proj.weight)
    flat = called(adapter, x, cos, sin)
    assert not torch.allclose(sharp, usual, atol=1e-4)
    values = adapter.base.v_proj(adapter.P).unflatten(-1, (1, 8)).mean(0).repeat_interleave(2, 0).flatten()
    assert torch.allclose(flat, values.expand_as(flat), atol=1e-5), "no query sees all alike"


@pytest.mark.parametrize("bias", [False, True])
def test_the_output_bias_is_added_once(bias):
    adapter = LlamaAdapter(attention(attention_bias=bias), 3)
    if bias:
        nn.init.normal_(adapter.base.o_proj.bias)
    x, cos, sin = given()
    assert torch.allclose(called(adapter, x, cos, sin), called(adapter.base, x, cos, sin), atol=1e-6)


def test_an_invertible_pair_around_a_model_in_half_precision():
    plain = host("gpt2").bfloat16()
    model = inject(plain, invertible(plain, size=4))
    assert model(**batch("gpt2")).logits.dtype == torch.bfloat16
