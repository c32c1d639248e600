"""Side networks: what runs when, what is frozen, and what the masks do."""

import pytest
import torch
from hosts import batch, host, stir
from torch import nn

from peft_from_scratch import LoRA, adapters, inject, merge, trained
from peft_from_scratch.methods.representation import shadow
from peft_from_scratch.methods.representation.lst import LST, Rung, narrow_body

BLOCKS = r"model\.layers\.\d+"


def shadowed(layers=1, **settings):
    plain = host("llama")
    return inject(plain, shadow.shadow(plain, BLOCKS, layers, **settings))


def test_the_shadow_has_one_row_of_embeddings_which_does_not_train():
    model = shadowed()
    body = next(a for _, a in adapters(model) if isinstance(a, shadow.ShadowBody))
    assert body.side.get_input_embeddings().weight.shape[0] == 1
    assert not any("side.embed" in name for name in trained(model))


def test_the_shadow_state_lives_for_one_pass_and_its_start_for_the_penalty():
    model = shadowed()
    ids = batch("llama")["input_ids"]
    with pytest.raises(ValueError, match="no shadow has run"):
        shadow.penalty(model, ids)
    model(input_ids=ids)
    state = next(a.state for _, a in adapters(model) if isinstance(a, shadow.ShadowBody))
    assert state.s is None and state.s0 is not None
    with_lora = inject(model, {"lm_head": LoRA})
    assert shadow.penalty(with_lora, ids).isfinite()


def test_the_shadow_sees_the_mask():
    model = shadowed().eval()
    stir(trained(model).values())
    ids, mask = batch("llama")["input_ids"], torch.ones(3, 7, dtype=torch.long)
    mask[:, :2] = 0
    other = ids.clone()
    other[:, :2] = 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        outs = [model(input_ids=i, attention_mask=mask, position_ids=positions).logits[:, 2:] for i in (ids, other)]
    assert torch.allclose(*outs, atol=1e-5)


def test_a_shadow_in_half_precision():
    plain = host("llama").bfloat16()
    model = inject(plain, shadow.shadow(plain, BLOCKS, 1, rank=1, u=1))
    ids = batch("llama")["input_ids"]
    out = model(input_ids=ids)
    loss = shadow.penalty(model, ids)
    assert out.logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    (out.logits.float().mean() + loss).backward()
    assert all(p.dtype == torch.float32 for p in trained(model).values())


@pytest.mark.parametrize("settings", [dict(rank=0), dict(u=0)])
def test_a_shadow_refuses_nothing_at_all(settings):
    with pytest.raises(ValueError, match="at least 1"):
        shadowed(**settings)


def ladder(name="llama", reduction=2):
    plain = host(name)
    site = plain.base_model_prefix
    model = inject(plain, {site: lambda body: LST(body, reduction)})
    return model, getattr(model, site)


def test_a_rung_mixes_the_ladder_with_the_tap_by_its_gate():
    rung = Rung(nn.Identity(), nn.Linear(2, 2), 6, 4)
    nn.init.constant_(rung.a, 1.5)
    g, rung.h = torch.randn(2, 3, 4), torch.randn(2, 3, 6)
    mu = torch.tensor(1.5).sigmoid()
    assert torch.allclose(rung(g), mu * rung.h @ rung.D.T + (1 - mu) * g, atol=1e-6)


def test_every_rung_starts_in_the_middle():
    model, body = ladder()
    assert [p.item() for name, p in trained(model).items() if name.endswith(".a")] == [0.0, 0.0]


def test_a_ladder_begins_at_the_embeddings_and_forgets_what_it_has_seen():
    model, body = ladder()
    seen = {}
    body.side.register_forward_pre_hook(lambda m, args, kwargs: seen.update(kwargs), with_kwargs=True)
    ids = batch("llama")["input_ids"]
    model(input_ids=ids)
    assert torch.allclose(seen["inputs_embeds"], body.get_input_embeddings()(ids) @ body.D.T)
    assert all(m.h is None for m in body.modules() if isinstance(m, Rung))


def test_a_ladder_cannot_be_merged():
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(ladder()[0])


def test_a_ladder_of_full_width_and_one_whose_smallest_part_is_one():
    base = host("llama").model
    side, width = narrow_body(base, 1)
    assert width == 32 and side.get_input_embeddings().weight.shape[0] == 1
    assert narrow_body(base, 4)[0].config.num_key_value_heads == 1
    with pytest.raises(ValueError, match="does not"):
        narrow_body(base, 3)


@pytest.mark.parametrize("pad", [None, 0, 1, 60])
def test_a_side_network_beside_roberta_has_one_row_and_the_positions_of_its_host(pad):
    """RoBERTa's positions begin behind its padding token's number, also where it reads hidden states."""
    plain = host("roberta") if pad else host("llama")
    body = getattr(plain, plain.base_model_prefix)
    body.config.pad_token_id = pad
    if pad == 60:  # a number behind all positions: only a side network that keeps it can know
        body.config.max_position_embeddings = 80
    side, _ = narrow_body(body, 1 if not pad else 3)
    table = side.get_input_embeddings().weight
    assert len(table) == 1 and not table.requires_grad
    if pad:
        assert side.embeddings.padding_idx == pad


def test_a_ladder_and_a_shadow_beside_roberta_start_as_it_and_train():
    given = batch("roberta")
    for targets in (
        lambda plain: {"roberta": lambda body: LST(body, 3)},
        lambda plain: shadow.shadow(plain, r"roberta\.encoder\.layer\.\d+", 1),
    ):
        plain = host("roberta")
        expected = plain(**given).logits
        model = inject(plain, targets(plain))
        assert torch.allclose(model(**given).logits, expected, atol=1e-6)
        stir(trained(model).values())
        out = model(**given)
        assert not torch.allclose(out.logits, expected, atol=1e-3)
        out.loss.backward()


def test_a_ladder_in_half_precision_trains_in_full():
    plain = host("llama").bfloat16()
    model = inject(plain, {"model": lambda body: LST(body, 2)})
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert model(input_ids=batch("llama")["input_ids"]).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "blocks"), [("llama", BLOCKS), ("gpt2", r"transformer\.h\.\d+")])
def test_a_shadow_beside_half_precision_reads_in_full(name, blocks):
    plain = host(name).bfloat16()
    model = inject(plain, shadow.shadow(plain, blocks, 1, rank=2))
    assert model(input_ids=batch(name)["input_ids"]).logits.dtype == torch.bfloat16


def test_a_shadow_has_the_kinds_of_as_many_blocks_as_it_has():
    plain = host("llama")
    plain.config.layer_types = plain.model.config.layer_types = ["full_attention", "full_attention"]
    model = inject(plain, shadow.shadow(plain, BLOCKS, 1))
    body = next(a for _, a in adapters(model) if isinstance(a, shadow.ShadowBody))
    assert body.side.config.layer_types == ["full_attention"]


def test_the_shadow_of_a_half_precision_model_computes_in_float32():
    plain = host("llama").bfloat16()
    model = inject(plain, shadow.shadow(plain, BLOCKS, 1))
    body = next(a for _, a in adapters(model) if isinstance(a, shadow.ShadowBody))
    ids = batch("llama")["input_ids"]
    model(input_ids=ids)
    x = body.get_input_embeddings()(ids).float()
    assert torch.equal(body.state.s0, body.side(inputs_embeds=x, use_cache=False)[0])
