"""Soft prompts and prefixes: what the papers say and the prompts' contract does not ask."""

import copy

import pytest
import torch
from hosts import batch, host, stir
from test_prompts import METHODS, cells, made

from peft_from_scratch import adapter_state, adapters, inject, load_adapter, trained
from peft_from_scratch.methods.adapters.adapter_drop import RobustDrop
from peft_from_scratch.methods.adapters.houlsby import houlsby
from peft_from_scratch.methods.prompts.body import body_of
from peft_from_scratch.methods.prompts.cartridge import distill_loss
from peft_from_scratch.methods.prompts.cpt import CPT, answer_weights, cpt, cpt_loss
from peft_from_scratch.methods.prompts.multitask import MultitaskPrompt, multitask_prompt, prompt_tasks
from peft_from_scratch.methods.prompts.p_tuning import PTuning, p_tuning
from peft_from_scratch.methods.prompts.prefix_tuning import Prefix, PrefixTuning, prefix_tuning


def run(model, given):
    with torch.no_grad():
        if any(hasattr(a, "n_tasks") for _, a in adapters(model)):
            with prompt_tasks(model, torch.tensor([0, 2, 1])):
                return model(**given).logits
        return model(**given).logits


@cells
def test_a_file_holds_all_that_was_drawn(method, name):
    model = made(method, name)
    stir(trained(model).values())
    plain = host(name)
    torch.manual_seed(99)  # another machine, another day: only the base is the same
    again = inject(plain, METHODS[method][0](plain)).eval()
    load_adapter(again, adapter_state(model))
    assert torch.equal(run(again, batch(name)), run(model, batch(name)))


@cells
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_it_holds_is_as_precise_as_the_body_and_float32_at_least(method, name, dtype):
    model = made(method, name, dtype=dtype)
    wanted = torch.promote_types(dtype, torch.float32)
    held = {k: t.dtype for k, t in adapter_state(model).items() if t.is_floating_point()}
    assert {k: d for k, d in held.items() if d != wanted} == {}
    assert run(model, batch(name)).dtype == dtype


def test_the_smallest_sizes():
    body = body_of(host("bert"))
    assert PTuning(body, 1, hidden=1, layers=1).made().shape == (1, 24)
    assert MultitaskPrompt(body, n_tasks=1, n_tokens=2).U.shape == (1, 2, 1)
    assert PrefixTuning(body_of(host("gpt2")), 1, hidden=1).rows().shape == (1, 2 * 2 * 24)


def test_a_made_prompt_is_a_finished_thing():
    plain = host("bert")
    model = inject(plain, p_tuning(plain, 3))
    assert not next(a for _, a in adapters(model)).made().requires_grad


def test_the_mean_of_all_tasks_is_where_a_new_task_begins():
    model = host("bert")
    inject(model, multitask_prompt(model, 3, 4))
    ((_, a),) = adapters(model)
    stir(trained(model).values())
    U, V = a.U.detach().clone(), a.V.detach().clone()
    a.average_tasks()
    for task in range(3):
        assert torch.allclose(a.U[task], (U[0] + U[1] + U[2]) / 3, atol=1e-6)
        assert torch.allclose(a.V[task], (V[0] + V[1] + V[2]) / 3, atol=1e-6)


@pytest.mark.parametrize("ids", [[-1, 1], [0, 3], [-2, -1]])
def test_one_task_that_does_not_exist_is_enough(ids):
    model = host("bert")
    inject(model, multitask_prompt(model, 3, 4))
    with pytest.raises(ValueError, match="from 0 to 2"), prompt_tasks(model, torch.tensor(ids)):
        pass


def test_the_tasks_are_those_of_before_after_the_block():
    model = host("bert")
    inject(model, multitask_prompt(model, 3, 4))
    ((_, a),) = adapters(model)
    with prompt_tasks(model, 1):
        with prompt_tasks(model, 2):
            assert a.ids.tolist() == [2]
        assert a.ids.tolist() == [1]
    assert a.ids is None


def test_a_context_without_kinds_is_a_template_and_kind_zero_does_not_move():
    body = body_of(host("llama"))
    unit = (32 / 2048) ** 0.5
    assert CPT(body, [7, 8], epsilon=3.0, format_epsilon=0.2).ball.flatten().tolist() == pytest.approx([0.2 * unit] * 2)
    assert CPT(body, [7, 8], [0, 2], epsilon=3.0).ball.flatten().tolist() == pytest.approx([0, 3 * unit])
    with pytest.raises(ValueError, match="above 0"):
        CPT(body, [7, 8], format_epsilon=0.0)


def test_a_change_just_outside_its_ball_is_brought_back():
    adapter = CPT(body_of(host("llama")), [7, 8], [2, 2], epsilon=0.5)
    torch.nn.init.normal_(adapter.delta)
    with torch.no_grad():
        adapter.delta *= 1.5 * adapter.ball / adapter.delta.norm(dim=1, keepdim=True)
    adapter.project()
    assert torch.allclose(adapter.delta.norm(dim=1, keepdim=True), adapter.ball)


def test_the_loss_of_a_context_is_over_answers_alone():
    plain, ids = host("llama"), batch("llama")["input_ids"]
    model = inject(plain, cpt(plain, [7, 8, 9, 10], [1, 2, 3, 4]))
    kinds = torch.full_like(ids, 4)
    assert torch.equal(cpt_loss(model, ids), cpt_loss(model, ids, kinds=kinds)), "by default all of it is one answer"
    kinds[:, :4] = 0
    labels = ids.clone()
    labels[:, :4] = -100
    assert torch.allclose(cpt_loss(model, ids, kinds=kinds), cpt_loss(model, ids, labels=labels))
    half = copy.deepcopy(model).bfloat16()
    assert cpt_loss(half, ids).dtype == torch.float32


def test_six_answers_weigh_by_how_many_come_after():
    kinds = torch.tensor([[4, 8, 12, 16, 20, 24]])
    assert answer_weights(kinds, 0.5).tolist() == [[1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]]


def test_a_teacher_gets_no_gradient():
    student, teacher = (torch.randn(2, 3, 5, requires_grad=True) for _ in range(2))
    distill_loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def test_a_prefix_method_without_rows_says_so_and_no_tokens_are_refused():
    with pytest.raises(NotImplementedError):
        Prefix(body_of(host("gpt2")), 3).rows()
    with pytest.raises(ValueError, match="n_tokens"):
        prefix_tuning(host("gpt2"), 0)


@pytest.mark.parametrize("told", [True, False])
def test_a_cache_is_given_back_to_those_who_asked_for_one(told):
    plain = host("gpt2")
    model = inject(plain, prefix_tuning(plain, 3)).eval()
    out = model(input_ids=batch("gpt2")["input_ids"], use_cache=told)
    assert (out.past_key_values is not None) == told


def test_a_random_drop_starts_with_every_adapter_and_then_skips_those_drawn():
    plain = host("bert")
    model = inject(plain, houlsby(plain, size=4))
    drop = RobustDrop(model, most=2)

    def skipped():
        return sum(getattr(a, "skipped", False) for _, a in adapters(model))

    assert skipped() == 0
    assert all(skipped() == 2 * drawn for drawn in (drop.step() for _ in range(8)))
