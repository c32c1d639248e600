"""What the mixtures must do beside the contract: shared tensors, task ids, the gate of X-LoRA, Arrow's directions."""

import copy

import pytest
import torch
from contract import INPUTS, KINDS, count
from hosts import batch, host, stir
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from peft_from_scratch import (
    LoRA,
    adapter_state,
    adapters,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.mixture import arrow, lily
from peft_from_scratch.methods.mixture.arrow import Arrow
from peft_from_scratch.methods.mixture.experts import Expert, from_model, from_state
from peft_from_scratch.methods.mixture.gate import Gate, GateHead
from peft_from_scratch.methods.mixture.lily import Lily
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA
from peft_from_scratch.methods.mixture.poly import Poly
from peft_from_scratch.methods.mixture.tasks import task_ids
from peft_from_scratch.methods.mixture.xlora import XLoRA, xlora
from peft_from_scratch.methods.parts import layers_at

SITES = {"llama": (r".*\.q_proj", r".*\.down_proj"), "gpt2": (r".*\.c_attn", r".*\.c_fc"), "bert": (r".*\.query",)}


def numbers(model):
    return sum(p.numel() for p in trained(model).values())


def expert_sets(name, count=3, rank=2):
    found = []
    for i in range(count):
        model = inject(host(name), {SITES[name]: lambda b, i=i: LoRA(b, rank, alpha=2 + i)})
        stir(trained(model).values(), seed=20 + i)
        found.append(from_model(model))
    return found


def experts_of(layer, ranks=(2, 3, 2), scales=(0.5, 1.0, 2.0)):
    g = torch.Generator().manual_seed(5)
    d_out, d_in = weight_of(layer).shape
    return [
        Expert(torch.randn(r, d_in, generator=g), torch.randn(d_out, r, generator=g), s)
        for r, s in zip(ranks, scales, strict=True)
    ]


# Lily -----------------------------------------------------------------------------------------------------------------


def lily_on(name="llama", **settings):
    model = host(name)
    return inject(model, {SITES[name]: lily.shared(model, SITES[name], rank=3, **settings)}).eval()


def test_lily_shares_a_with_neighbours_and_b_in_the_family():
    found = dict(adapters(lily_on(stride=2)))
    q0, q1 = (found[f"model.layers.{i}.self_attn.q_proj"] for i in (0, 1))
    down = found["model.layers.0.mlp.down_proj"]
    assert q0.A is q1.A and q0.B is q1.B and q0.R is not q1.R
    assert down.A is not q0.A and down.B is not q0.B
    one_each = dict(adapters(lily_on(stride=1)))
    assert one_each["model.layers.0.self_attn.q_proj"].A is not one_each["model.layers.1.self_attn.q_proj"].A


def test_lily_shares_after_a_copy_a_file_and_a_switch(tmp_path):
    model, given = lily_on(stride=2), batch("llama")
    stir(trained(model).values())
    y = model(**given).logits
    again = load_adapter(lily_on(stride=2), save_adapter(model, tmp_path / "lily.safetensors"))
    assert torch.equal(again(**given).logits, y)
    twin = dict(adapters(copy.deepcopy(model)))
    assert twin["model.layers.0.self_attn.q_proj"].B is twin["model.layers.1.self_attn.q_proj"].B
    two = inject(model, {SITES["llama"]: lily.shared(model, SITES["llama"], rank=2)}, name="second")
    stir(trained(two).values())
    count = numbers(two)
    assert not torch.equal(two(**given).logits, y)
    assert torch.equal(switch(two, "default")(**given).logits, y)
    switch(two, "second")
    assert numbers(two) == count, "a shared tensor that slept at two sites must train again"
    assert torch.equal(switch(two, None)(**given).logits, host("llama")(**given).logits)


PUBLISHED = [  # in peft's method_comparison, for Llama-3.2-3B
    (140, (r".*\.gate_proj", r".*\.up_proj", r".*\.down_proj"), 9_485_280),
    (896, (r".*\.q_proj", r".*\.v_proj"), 18_450_432),
]


def test_lily_on_llama_3b_trains_what_pefts_comparison_published():
    """2 As (stride 14 of 28 layers) and 2 Bs a family."""
    config = LlamaConfig(
        hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8, intermediate_size=8192
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    for rank, sites, published in PUBLISHED:
        made = nn.ModuleList(map(lily.shared(model, sites, rank, n_experts=2, stride=14), layers_at(model, sites)))
        assert sum(p.numel() for p in made.parameters() if p.requires_grad) == published  # a shared one comes once


def test_lily_with_equal_experts_is_one_low_rank_change():
    layer = Lily(nn.Linear(12, 8), rank=3, n_experts=2, scale=2)
    stir([layer.A.value, layer.R])
    with torch.no_grad():
        layer.B.value.copy_(torch.randn(8, 3).expand(2, 8, 3))
    x = torch.randn(2, 5, 12)
    expected = layer.base(x) + 2 * x @ layer.A.value.T @ layer.B.value[0].T
    assert (layer(x) - expected).abs().max() <= 1e-5


def test_lily_gives_a_text_another_answer_beside_other_texts():
    """The router's mean runs over the batch; peft 0.21.2 and the authors' code do the same."""
    layer = Lily(nn.Linear(12, 8), rank=3)
    stir([layer.A.value, layer.B.value, layer.R], std=1)
    x = torch.randn(2, 5, 12)
    assert (layer(x)[:1] - layer(x[:1])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "words"),
    [(dict(rank=0), "rank must be"), (dict(n_experts=1), "2 experts"), (dict(stride=0), "stride")],
)
def test_lily_refuses(settings, words):
    model = host("llama")
    with pytest.raises(ValueError, match=words):
        inject(model, {SITES["llama"]: lily.shared(model, SITES["llama"], **settings)})


def test_lily_needs_the_same_sites_twice():
    model = host("llama")
    with pytest.raises(ValueError, match="same model and sites"):
        inject(model, {r".*\.k_proj": lily.shared(model, SITES["llama"])})


# Task ids: Poly and MTL-LoRA ------------------------------------------------------------------------------------------

PER_TASK = {
    "poly": lambda b: Poly(b, 3, rank=2, n_skills=2),
    "mtl": lambda b: MTLLoRA(b, 3, rank=2, n_up=2),
}
per_task = pytest.mark.parametrize("method", PER_TASK)


def tasked(method, name="llama"):
    model = inject(host(name), {SITES[name]: PER_TASK[method]}).eval()
    stir(trained(model).values(), std=0.5)
    return model


@per_task
def test_each_row_gets_its_own_task_and_no_other(method):
    model, given = tasked(method), batch("llama")
    with task_ids(model, torch.tensor([2, 0, 2])):
        y = model(**given).logits
    for task in (0, 2):
        with task_ids(model, task):
            alone = model(**given).logits
        rows = [1] if task == 0 else [0, 2]
        others = [0, 2] if task == 0 else [1]
        assert (y[rows] - alone[rows]).abs().max() <= 1e-6
        assert (y[others] - alone[others]).abs().min(-1).values.max() > 0
        assert (y[others] - alone[others]).abs().max() > 1e-3


@per_task
def test_one_task_merges(method):
    model, given = tasked(method), batch("llama")
    with task_ids(model, 1):
        y, plain = model(**given).logits, merge(model)
    assert (plain(**given).logits - y).abs().max() <= 1e-5
    with task_ids(model, torch.tensor([0, 1])), pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)


@per_task
def test_beams_and_a_cache_keep_the_tasks(method):
    model = tasked(method, "gpt2")
    ids = {k: batch("gpt2")[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=5, num_beams=3, do_sample=False, pad_token_id=0, eos_token_id=60)
    tasks = torch.tensor([2, 0, 1])
    with task_ids(model, tasks):
        out = model.generate(**ids, **kw)
    for row, task in enumerate(tasks.tolist()):
        with task_ids(model, task):
            alone = merge(model).generate(**{k: v[row : row + 1] for k, v in ids.items()}, **kw)
        assert torch.equal(out[row, : alone.shape[1]], alone[0])


@per_task
def test_task_ids_that_cannot_be(method):
    model = tasked(method)
    for wrong in (torch.tensor([0, 3]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([], dtype=torch.long), 3):
        with pytest.raises(ValueError, match="whole numbers from 0 to 2"), task_ids(model, wrong):
            pass
    with pytest.raises(ValueError, match="with task_ids"):
        model(**batch("llama"))
    with task_ids(model, torch.tensor([0, 1])), pytest.raises(ValueError, match="2 task ids do not fit a batch of 3"):
        model(**batch("llama"))
    with pytest.raises(ValueError, match="no adapter of this model"), task_ids(host("llama"), 0):
        pass


@per_task
def test_ids_are_put_back_after_the_block(method):
    model = tasked(method)
    with task_ids(model, 2):
        with pytest.raises(ZeroDivisionError), task_ids(model, torch.tensor([0, 1, 0])):
            raise ZeroDivisionError
        assert {tuple(a.ids.tolist()) for _, a in adapters(model)} == {(2,)}
    assert {a.ids for _, a in adapters(model)} == {None}


def test_gradient_checkpointing_needs_backward_in_the_block():
    model, given = tasked("mtl").train(), batch("llama")
    with task_ids(model, torch.tensor([2, 0, 1])):
        model(**given).loss.backward()
    plain = [p.grad.clone() for p in trained(model).values()]
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with task_ids(model, torch.tensor([2, 0, 1])):
        loss = model(**given).loss
        loss.backward()
    for g, p in zip(plain, trained(model).values(), strict=True):
        assert (g - p.grad).abs().max() <= 1e-6
    with task_ids(model, 1):
        loss = model(**given).loss
    with pytest.raises(ValueError, match="with task_ids"):
        loss.backward()


def test_poly_with_one_skill_is_lora():
    layer = Poly(nn.Linear(12, 8), n_tasks=2, rank=3, n_skills=1)
    stir([layer.B, layer.Z])
    lora = LoRA(layer.base, rank=3, alpha=1)
    with torch.no_grad():
        lora.A.copy_(layer.A[0, 0]), lora.B.copy_(layer.B[0, 0])
    x = torch.randn(2, 5, 12)
    with task_ids(layer, torch.tensor([0, 1])):
        assert (layer(x) - lora(x)).abs().max() <= 1e-6


def test_poly_draws_coins_in_training_only():
    layer = Poly(nn.Linear(12, 8), n_tasks=2, rank=3, n_skills=2)
    stir([layer.B], std=1)
    x = torch.randn(2, 5, 12)
    with task_ids(layer, torch.tensor([0, 1])):
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))


def test_mtl_lora_of_one_task_and_one_up_projection_is_lora():
    """From the equation: softmax over one B is 1, Λ = I."""
    layer = MTLLoRA(nn.Linear(12, 8), n_tasks=1, rank=3, alpha=5, n_up=1)
    stir([layer.A, layer.B, layer.w])
    lora = LoRA(layer.base, rank=3, alpha=5)
    with torch.no_grad():
        lora.A.copy_(layer.A), lora.B.copy_(layer.B[0])
    x = torch.randn(2, 5, 12)
    with task_ids(layer, 0):
        assert (layer(x) - lora(x)).abs().max() <= 1e-6


def test_a_full_lambda_that_is_diagonal_is_the_diagonal_one():
    diagonal, full = (MTLLoRA(nn.Linear(12, 8), 2, rank=3, n_up=2, diagonal=d) for d in (True, False))
    stir([diagonal.A, diagonal.B, diagonal.w, diagonal.Lambda])
    with torch.no_grad():
        full.base.load_state_dict(diagonal.base.state_dict())
        for k in ("A", "B", "w"):
            getattr(full, k).copy_(getattr(diagonal, k))
        full.Lambda.copy_(torch.diag_embed(diagonal.Lambda))
    x, ids = torch.randn(2, 5, 12), torch.tensor([1, 0])
    with task_ids(diagonal, ids), task_ids(full, ids):
        assert (diagonal(x) - full(x)).abs().max() <= 1e-6


def test_equal_w_would_keep_all_up_projections_the_same():
    """Why w starts at random: with B = 0 and equal w (adapters 1.3.0) all B_i get one and the same gradient."""
    for equal in (True, False):
        layer = MTLLoRA(nn.Linear(12, 8), n_tasks=2, rank=3, n_up=2)
        if equal:
            nn.init.ones_(layer.w)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            with task_ids(layer, torch.tensor([0, 1])):
                (layer(torch.ones(2, 5, 12)) - 1).square().mean().backward()
            optimizer.step()
        assert torch.equal(layer.B[0], layer.B[1]) == equal


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Poly(nn.Linear(12, 8), 0), ValueError, "n_tasks"),
        (lambda: Poly(nn.Linear(12, 8), 2, rank=0), ValueError, "rank"),
        (lambda: Poly(nn.Linear(12, 8), 2, n_splits=3), ValueError, r"\[1, 2, 4\] would"),
        (lambda: Poly(nn.Embedding(12, 8), 2), TypeError, "look-up"),
        (lambda: Poly(nn.Conv2d(2, 2, 1), 2), TypeError, "convolution"),
        (lambda: MTLLoRA(nn.Linear(12, 8), 2, rank=0), ValueError, "rank and n_up"),
        (lambda: MTLLoRA(nn.Linear(12, 8), 2, tau=0), ValueError, "tau above 0"),
        (lambda: MTLLoRA(nn.LayerNorm(12), 2), TypeError, "weight matrix"),
    ],
)
def test_settings_that_cannot_be(make, error, words):
    with pytest.raises(error, match=words):
        make()


# Experts, Arrow -------------------------------------------------------------------------------------------------------


def test_experts_from_a_state_are_those_from_the_model():
    model = inject(host("llama"), {SITES["llama"]: lambda b: LoRA(b, rank=2, alpha=6, rslora=True)})
    stir(trained(model).values())
    one, other = from_state(adapter_state(model), alpha=6, rslora=True), from_model(model)
    assert one.keys() == other.keys() and len(one) == 4
    for site in one:
        assert torch.equal(one[site].A, other[site].A) and torch.equal(one[site].B, other[site].B)
        assert one[site].scale == pytest.approx(other[site].scale)


def test_an_expert_with_another_start_is_what_it_has_learned():
    from peft_from_scratch.methods.lowrank.lora import Start

    def start(base, rank, scale):
        return Start(torch.ones(rank, 12), torch.ones(8, rank), subtract=True)

    lora = LoRA(nn.Linear(12, 8), rank=2, start=start)
    stir([lora.A, lora.B])
    (expert,) = from_model(lora).values()
    assert (expert.scale * expert.B @ expert.A - lora.change()).abs().max() <= 1e-5


def test_experts_that_do_not_fit():
    model, experts = host("llama"), expert_sets("llama")
    with pytest.raises(ValueError, match="expert 0 and the targets differ in 2 sites"):
        arrow.shared(model, r".*\.q_proj", experts)
    with pytest.raises(ValueError, match="no LoRA"):
        from_state({"head.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"plain LoRA \(A, B\), here are \['A', 'b'\]"):
        from_model(inject(host("llama"), {SITES["llama"]: lambda b: LoRA(b, bias=True)}))
    with pytest.raises(ValueError, match=r"q: an expert must be a plain LoRA \(A, B\), here are \['A', 'B', 'm'\]"):
        from_state(
            {"q.A": torch.ones(2, 3), "q.B": torch.ones(4, 2), "q.m": torch.ones(4), "head.trained.b": torch.ones(1)}
        )
    with pytest.raises(ValueError, match="is a LoRA"):
        from_model(host("llama"))
    with pytest.raises(ValueError, match="same model and sites"):
        arrow.shared(model, SITES["llama"], experts)(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="same model and sites"):
        inject(host("llama"), xlora(model, SITES["llama"], experts))
    with pytest.raises(ValueError, match="at least one expert"):
        Arrow(nn.Linear(12, 8), [])
    with pytest.raises(TypeError, match="convolution"):
        Arrow(nn.Conv2d(2, 2, 1), experts_of(nn.Conv2d(2, 2, 1)))


@pytest.mark.parametrize(("top_k", "temperature"), [(0, 1.0), (4, 1.0), (2, 0.0)])
def test_arrow_refuses(top_k, temperature):
    layer = nn.Linear(12, 8)
    with pytest.raises(ValueError, match="from 1 to the 3 experts"):
        Arrow(layer, experts_of(layer), top_k, temperature)


def test_arrow_is_its_equation():
    layer = nn.Linear(12, 8)
    experts = experts_of(layer)
    made, x = Arrow(layer, experts, top_k=2, temperature=0.7), torch.randn(2, 5, 12)
    v = [torch.linalg.svd(e.B @ e.A).Vh[0] for e in experts]
    for row in range(2):
        for t in range(5):
            token = x[row, t]
            score = torch.stack([(token @ u).abs() for u in v])
            keep = sorted(range(3), key=lambda i: -score[i])[:2]
            g = torch.softmax(score[keep] / 0.7, 0)
            delta = sum(g[j] * experts[i].scale * experts[i].B @ (experts[i].A @ token) for j, i in enumerate(keep))
            assert (made(x)[row, t] - layer(token) - delta).abs().max() <= 1e-5


KINDS_OF_ARROW = [k for k in KINDS if k in ("Linear", "Conv1D", "Embedding")]


@pytest.mark.parametrize("kind", KINDS_OF_ARROW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_arrow_keeps_the_contract(kind, dtype, tmp_path):
    """The cells that do not need something to train: it trains nothing, so the table of the contract is not for it."""
    base = nn.Sequential(KINDS[kind]()).to(dtype)
    plain = copy.deepcopy(base)
    x = INPUTS[kind](torch.Generator().manual_seed(3))
    x = x.to(dtype) if x.is_floating_point() else x
    model = inject(base, {"0": lambda b: Arrow(b, experts_of(b), top_k=2)})
    y = model(x)
    assert y.dtype == dtype and not trained(model)
    assert not torch.equal(y, plain(x))
    assert torch.equal(copy.deepcopy(model)(x), y)
    other = inject(copy.deepcopy(plain), {"0": lambda b: Arrow(b, experts_of(b)[::-1], top_k=2)})
    with pytest.raises(ValueError, match="saved as"):  # its scales are in another order
        load_adapter(other, save_adapter(model, tmp_path / "a.safetensors"))
    again = inject(copy.deepcopy(plain), {"0": lambda b: Arrow(b, [e._replace(A=-e.A) for e in experts_of(b)], 2)})
    assert torch.equal(load_adapter(again, tmp_path / "a.safetensors")(x), y)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    assert torch.equal(remove(model)(x), plain(x))


@pytest.mark.compiled
@pytest.mark.parametrize("kind", KINDS_OF_ARROW)
def test_arrow_compiles_in_one_graph(kind):
    model = Arrow(KINDS[kind](), experts_of(KINDS[kind]()), top_k=2)
    x = INPUTS[kind](torch.Generator().manual_seed(3))
    torch._dynamo.reset()
    assert (torch.compile(model, fullgraph=True, backend="aot_eager")(x) - model(x)).abs().max() <= 1e-6


def test_nothing_is_longer_than_the_direction():
    g = torch.Generator().manual_seed(1)
    A, B = torch.randn(3, 12, generator=g), torch.randn(8, 3, generator=g)
    v = arrow.direction(A, B)
    others = torch.nn.functional.normalize(torch.randn(500, 12, generator=g), dim=-1)
    assert v.norm() == pytest.approx(1)
    assert (B @ A @ v.float()).norm() >= (others @ A.T @ B.T).norm(dim=-1).max()


def test_genknowsub_apart_has_cross_terms_and_exact_has_none():
    layer = nn.Linear(12, 8)
    e, g, h = experts_of(layer, ranks=(2, 2, 2))
    change = {k: x.scale * x.B @ x.A for k, x in dict(e=e, g=g, h=h).items()}
    wanted = change["e"] - (change["g"] + change["h"]) / 2
    sets = [{"": x} for x in (e, g, h)]
    (exact,), (apart,) = (arrow.subtract(sets[:1], sets[1:], exact=x) for x in (True, False))
    assert (exact[""].scale * exact[""].B @ exact[""].A - wanted).abs().max() <= 1e-5
    assert (apart[""].scale * apart[""].B @ apart[""].A - wanted).abs().max() > 1
    assert len(exact[""].A) == 6 and len(apart[""].A) == 2
    with pytest.raises(ValueError, match="exact=True"):
        arrow.subtract(sets[:1], [{"": experts_of(layer)[1]}])
    with pytest.raises(ValueError, match="at least one general"):
        arrow.subtract(sets[:1], [])


# X-LoRA ---------------------------------------------------------------------------------------------------------------


def gated(name="llama", stirred=True, **settings):
    model = host(name)
    model = inject(model, xlora(model, SITES[name], expert_sets(name), **settings)).eval()
    if stirred:
        stir(trained(model).values())
    return model


def test_xlora_is_its_equation():
    layer = nn.Linear(12, 8)
    experts, g = experts_of(layer), torch.rand(2, 5, 4, 3)
    made, x = XLoRA(layer, experts, Gate(g), place=2), torch.randn(2, 5, 12)
    delta = sum(g[:, :, 2, i, None] * e.scale * (x @ e.A.T @ e.B.T) for i, e in enumerate(experts))
    assert (made(x) - layer(x) - delta).abs().max() <= 1e-5
    with pytest.raises(ValueError, match=r"tokens \(2, 5\), this layer has \(2, 4\)"):
        made(x[:, :4])


def test_the_gate_comes_from_the_plain_model():
    """h is the last hidden state of the model without experts; the gate of a pass depends on nothing else."""
    model, given = gated(), batch("llama")
    model(**given)
    body = dict(adapters(model))["model"]
    h = host("llama").model(given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    assert (body.head(h) - body.gate.g).abs().max() <= 1e-6
    assert body.gate.g.shape == (3, 7, 4, 3) and (body.gate.g.sum(-1) - 1).abs().max() <= 1e-6


@pytest.mark.parametrize(("name", "width"), [("llama", 32), ("gpt2", 24), ("bert", 24)])
def test_only_the_head_trains(name, width):
    model, given = gated(name), batch(name)
    n_sites = len(dict(adapters(model))) - 1
    assert numbers(model) == eval(count("X-LoRA"), dict(width=width, n_experts=3, n_sites=n_sites))
    assert numbers(gated(name, layerwise=False)) == (width + 1) * 3
    before = adapter_state(model)
    optimizer = torch.optim.SGD(trained(model).values(), lr=1.0)
    model.train()(**given).loss.backward()
    optimizer.step()
    moved = {k for k, t in adapter_state(model).items() if not torch.equal(t, before[k])}
    assert moved == set(trained(model)) and len(moved) == 2
    copy.deepcopy(model)  # with a gate that a graph has made


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_xlora_generates_as_without_generate(name):
    model = gated(name)
    ids = {k: batch(name)[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=99)
    expected = ids["input_ids"]
    for _ in range(6):
        logits = model(input_ids=expected, attention_mask=torch.ones_like(expected)).logits
        expected = torch.cat((expected, logits[:, -1:].argmax(-1)), 1)
    assert torch.equal(model.generate(**ids, **kw, use_cache=False), expected)
    assert not torch.equal(host(name).generate(**ids, **kw), expected), "the experts must matter"
    assert model.generate(**ids, **kw, num_beams=2, use_cache=False).shape == expected.shape
    with pytest.raises(ValueError, match="use_cache=False"):
        model.generate(**ids, **kw)


def test_xlora_survives_what_others_do(tmp_path):
    model, given = gated(), batch("llama")
    y = model(**given).logits
    again = load_adapter(gated(stirred=False), save_adapter(model, tmp_path / "x.safetensors"))
    assert torch.equal(again(**given).logits, y)
    with pytest.raises(ValueError, match="saved as"):
        load_adapter(gated(top_k=2), tmp_path / "x.safetensors")
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        merge(model)
    assert torch.equal(copy.deepcopy(model)(**given).logits, y)
    two = inject(model, {SITES["llama"]: LoRA}, name="plain")
    stir(trained(two).values())
    assert not torch.equal(two(**given).logits, y)
    assert torch.equal(switch(two, "default")(**given).logits, y)
    assert torch.equal(switch(two, None)(**given).logits, host("llama")(**given).logits)
    assert torch.equal(remove(two)(**given).logits, host("llama").requires_grad_(False)(**given).logits)


def test_xlora_in_bfloat16_and_on_a_body_that_is_the_model():
    model = host("llama").to(torch.bfloat16)
    model = inject(model, xlora(model, SITES["llama"], expert_sets("llama")))
    assert model(**batch("llama")).logits.dtype == torch.bfloat16
    plain = nn.Sequential(nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12))
    experts = [from_model(inject(copy.deepcopy(plain), {"0|2": lambda b: LoRA(b, rank=2)})) for _ in range(2)]
    gate = xlora(plain, "0|2", experts, body="", width=12)
    assert inject(plain, gate)(torch.randn(2, 5, 12)).shape == (2, 5, 12)


def test_xlora_on_an_encoder():
    """T5 as a whole has two streams of tokens; its encoder is a body like any other."""
    sites = r"encoder\..*\.q"
    lora = inject(host("t5"), {sites: LoRA})
    stir(trained(lora).values())
    model = host("t5")
    model = inject(model, xlora(model, sites, [from_model(lora)], body="encoder", layerwise=False))
    assert (model(**batch("t5")).logits - lora(**batch("t5")).logits).abs().max() <= 1e-5  # one expert: g = 1
    assert model.generate(batch("t5")["input_ids"], max_new_tokens=3).shape[0] == 3  # the decoder may use its cache


def test_experts_may_train_too():
    model = gated(train_experts=True)
    assert numbers(model) == 33 * 3 * 4 + sum(a.A.numel() + a.B.numel() for _, a in adapters(model) if hasattr(a, "A"))
    model(**batch("llama")).loss.backward()
    assert all(p.grad.abs().max() > 0 for p in trained(model).values())


def test_xlora_with_gradient_checkpointing():
    model, given = gated().train(), batch("llama")
    model(**given).loss.backward()
    plain = [p.grad.clone() for p in trained(model).values()]
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**given).loss.backward()
    for g, p in zip(plain, trained(model).values(), strict=True):
        assert (g - p.grad).abs().max() <= 1e-6 and g.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(depth=0), "depth and hidden"),
        (dict(temperature=0), "temperature above 0"),
        (dict(top_k=4), "from 1 to the 3 experts"),
        (dict(softmax="some"), "softmax must be"),
        (dict(softmax="kept"), "with a top_k"),
    ],
)
def test_gate_refuses(settings, words):
    with pytest.raises(ValueError, match=words):
        GateHead(8, 3, 2, **settings)


def test_gate_keeps_the_best():
    h = torch.randn(2, 5, 8)
    kept = GateHead(8, 4, 2, top_k=2, softmax="kept")(h)
    assert ((kept > 0).sum(-1) == 2).all() and (kept.sum(-1) - 1).abs().max() <= 1e-6
    cut = GateHead(8, 4, 2, top_k=2)(h)
    assert ((cut > 0).sum(-1) == 2).all() and (cut.sum(-1) < 1).all()
