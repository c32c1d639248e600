"""Lily, Poly, X-LoRA and Arrow equal Hugging Face peft 0.21.2, MTL-LoRA equals adapters 1.3.0, on copied weights."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft, record, suffixes
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from peft_from_scratch import LoRA, inject, trained
from peft_from_scratch.adapt import adapters
from peft_from_scratch.methods.mixture import arrow, lily
from peft_from_scratch.methods.mixture.experts import from_model
from peft_from_scratch.methods.mixture.mtl_lora import MTLLoRA
from peft_from_scratch.methods.mixture.poly import Poly
from peft_from_scratch.methods.mixture.tasks import task_ids
from peft_from_scratch.methods.mixture.xlora import xlora

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "llama": ["q_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wo"],
}
STD = {"bert": 2.0, "llama": 0.2, "t5": 0.2, "gpt2": 0.3}  # a new classifier damps what the adapters under it do
names = pytest.mark.parametrize("name", TARGETS)
FIXTURE = Path(__file__).parent / "oracles" / "mtl_lora.safetensors"


class View:
    """Their tensor in our layout: `there` maps theirs (and its gradient) to ours."""

    def __init__(self, tensor, there):
        self.tensor, self.there = tensor, there

    def copy_(self, other):
        self.there(self.tensor).copy_(other)

    @property
    def grad(self):
        return self.there(self.tensor.grad)


# Lily -----------------------------------------------------------------------------------------------------------------


def lily_pairs(ours, theirs):
    n, d_out, r = ours.B.value.shape
    return [
        (ours.A.value, theirs.lily_A["default"].weight),
        (ours.B.value, View(theirs.lily_B["default"].weight, lambda t: t.view(n, r, d_out).mT)),
        (ours.R, theirs.lily_router["default"].weight),
    ]


def lily_twin(name, rank=4, n_experts=2, stride=1, scale=1.0):
    config = peft.LilyConfig(r=rank, num_B=n_experts, stride_A=stride, scaling=scale, target_modules=TARGETS[name])
    return Twin(
        name,
        TARGETS[name],
        lambda model: lily.shared(model, suffixes(TARGETS[name]), rank, n_experts, stride, scale),
        config,
        lily_pairs,
        std=STD[name],
        of_model=True,
    )


@names
@pytest.mark.parametrize(("stride", "n_experts", "scale"), [(1, 2, 1.0), (2, 3, 4.0)])
def test_lily(name, stride, n_experts, scale):
    lily_twin(name, n_experts=n_experts, stride=stride, scale=scale).check("Lily", name, tol=2e-6)


@names
def test_lily_trains_as_many_numbers_as_peft(name):
    twin = lily_twin(name, stride=2)
    theirs = sum(p.numel() for n, p in twin.theirs.named_parameters() if "lily" in n)
    assert sum(p.numel() for p in trained(twin.ours).values()) == theirs


# Poly -----------------------------------------------------------------------------------------------------------------


def poly_pairs(ours, theirs):
    return [
        (ours.A, View(theirs.poly_lora_A["default"], lambda t: t.mT)),
        (ours.B, View(theirs.poly_lora_B["default"], lambda t: t.mT)),
        (ours.Z, View(theirs.poly_router["default"].module_logits, lambda t: t.view(ours.Z.shape))),
    ]


@names
@pytest.mark.parametrize("n_splits", [1, 2])
@pytest.mark.parametrize("train_seed", [None, 5])
def test_poly(name, n_splits, train_seed):
    """In training each row draws its own relaxed coins, from the same numbers as in peft."""
    config = peft.PolyConfig(r=3, n_tasks=3, n_skills=2, n_splits=n_splits, target_modules=TARGETS[name])
    twin = Twin(name, TARGETS[name], lambda b: Poly(b, 3, 3, 2, n_splits), config, poly_pairs, STD[name])
    ids = torch.tensor([2, 0, 2])
    with task_ids(twin.ours, ids), twin.theirs.base_model._manage_pre_hooks(ids):
        twin.check("Poly", name, tol=5e-6, train_seed=train_seed)


def test_poly_counts_as_peft_does():
    base = nn.Sequential(nn.Linear(24, 40))
    theirs = peft.get_peft_model(base, peft.PolyConfig(r=3, n_tasks=5, n_skills=2, n_splits=4, target_modules=["0"]))
    ours = inject(nn.Sequential(nn.Linear(24, 40)), {"0": lambda b: Poly(b, 5, 3, 2, 4)})
    count = sum(p.numel() for n, p in theirs.named_parameters() if "poly" in n)
    assert sum(p.numel() for p in trained(ours).values()) == count == 2 * 3 * 64 + 5 * 4 * 2


# Experts: the same trained LoRAs for both -----------------------------------------------------------------------------

EXPERT_TARGETS = TARGETS | {"bert": ["query", "value"], "gpt2": ["c_attn", "c_fc"]}


def trained_loras(name, count=3, rank=2):
    """Sets of LoRAs on the model `name`, moved at random."""
    found = []
    for i in range(count):
        model = inject(host(name), {suffixes(EXPERT_TARGETS[name]): lambda b, i=i: LoRA(b, rank, alpha=2 + i)})
        stir(trained(model).values(), seed=20 + i, std=STD[name])
        found.append(model)
    return found


def as_peft(model, name, folder, alpha, rank=2):
    """One of them as a peft checkpoint."""
    folder.mkdir()
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=EXPERT_TARGETS[name], fan_in_fan_out=name == "gpt2"
    )
    state = {}
    for site, a in adapters(model):
        state[f"base_model.model.{site}.lora_A.weight"] = a.A.detach().clone()
        state[f"base_model.model.{site}.lora_B.weight"] = a.B.detach().clone()
    save_file(state, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config.to_dict(), default=list))
    return str(folder)


def checkpoints(name, tmp_path, models):
    return {str(i): as_peft(m, name, tmp_path / str(i), alpha=2 + i) for i, m in enumerate(models)}


def loss_and_logits(model, given):
    out = model(**given)
    out.loss.backward()
    return out.logits.detach()


# X-LoRA ---------------------------------------------------------------------------------------------------------------

HEADS = {  # ours -> theirs
    "peft's defaults": (dict(layerwise=False), {}),
    "the paper's": ({}, dict(layerwise_scalings=True)),
    "two layers, sharper": (
        dict(depth=2, hidden=7, temperature=0.5),
        dict(layerwise_scalings=True, xlora_depth=2, xlora_size=7, softmax_temperature=0.5),
    ),
    "best 2": (dict(top_k=2), dict(layerwise_scalings=True, top_k_lora=2)),
    "softmax of the best 2": (
        dict(top_k=2, softmax="kept"),
        dict(layerwise_scalings=True, top_k_lora=2, enable_softmax=False, enable_softmax_topk=True),
    ),
    "no softmax": (dict(softmax="none"), dict(layerwise_scalings=True, enable_softmax=False)),
    "first pass with all experts": (dict(first_pass=0.3), dict(layerwise_scalings=True, scaling_pass_value=0.3)),
}


def xlora_twins(name, tmp_path, ours, theirs):
    models = trained_loras(name)
    experts = [from_model(m) for m in models]
    mine = host(name)
    mine = inject(mine, xlora(mine, suffixes(EXPERT_TARGETS[name]), experts, **ours)).eval()
    stir(trained(mine).values())
    other = host(name)
    other.config.use_cache = False
    config = peft.XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=other.config.hidden_size,
        adapters=checkpoints(name, tmp_path, models),
        **theirs,
    )
    other = peft.get_peft_model(other, config).eval()
    head = dict(other.base_model.internal_xlora_classifier.layers.named_parameters())
    body = next(a for _, a in adapters(mine) if hasattr(a, "head"))
    pairs = [(p, head[n]) for n, p in body.head.layers.named_parameters()]
    with torch.no_grad():
        for p, q in pairs:
            q.copy_(p)
    return mine, other, pairs


@pytest.mark.parametrize("head", HEADS)
def test_xlora(head, tmp_path):
    mine, other, pairs = xlora_twins("llama", tmp_path, *HEADS[head])
    given = batch("llama")
    y, z = loss_and_logits(mine, given), loss_and_logits(other, given)
    assert (y - host("llama")(**given).logits).abs().max() > 1e-2
    grads = [(p.grad - q.grad).abs().max().item() for p, q in pairs]
    difference = max((y - z).abs().max().item(), *grads)
    assert difference <= 5e-6 and max(p.grad.abs().max() for p, _ in pairs) > 1e-4
    record("X-LoRA", "peft 0.21.2", difference)


def test_peft_loads_experts_only_into_a_body_called_model(tmp_path):
    """Its X-LoRA rewrites the names in a checkpoint to model.model.*, which GPT-2's transformer.* is not; ours runs."""
    with pytest.raises(ValueError, match="unexpected keys"):
        xlora_twins("gpt2", tmp_path, {}, {})


def test_xlora_generates_what_peft_generates(tmp_path):
    mine, other, _ = xlora_twins("llama", tmp_path, {}, dict(layerwise_scalings=True))
    ids = {k: batch("llama")[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=8, do_sample=False, pad_token_id=0)
    out = mine.generate(**ids, **kw, use_cache=False)
    assert torch.equal(out, other.generate(**ids, **kw))
    assert not torch.equal(out, host("llama").generate(**ids, **kw)), "the experts must matter"


# Arrow ----------------------------------------------------------------------------------------------------------------


def arrow_twins(name, tmp_path, general=0, top_k=2, temperature=1.0, exact=False):
    models = trained_loras(name, 3 + general)
    experts = [from_model(m) for m in models]
    if general:
        experts = arrow.subtract(experts[:3], experts[3:], exact)
    mine = host(name)
    sites = suffixes(EXPERT_TARGETS[name])
    mine = inject(mine, {sites: arrow.shared(mine, sites, experts[:3], top_k, temperature)}).eval()
    config = peft.ArrowConfig(top_k=top_k, router_temperature=temperature, rng_seed=0, use_gks=bool(general))
    paths = list(checkpoints(name, tmp_path, models).values())
    from peft.tuners.lora.arrow import create_arrow_model

    other = create_arrow_model(host(name), paths[:3], config, paths[3:] or None).eval()
    return mine, other


def copy_directions(mine, other, given):
    """Our exact v in place of their 15 power iterations; how well the two agreed (cosines)."""
    other(**given)  # peft finds its prototypes in the first pass
    cosines = []
    for site, a in adapters(mine):
        layer = other.base_model.model.get_submodule(site).lora_arrow["arrow_router"]
        cosines.append((a.v * layer.prototypes).sum(-1).abs().min().item())
        layer.prototypes.copy_(a.v)
    return cosines


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")
@pytest.mark.parametrize("name", EXPERT_TARGETS)
@pytest.mark.parametrize(("top_k", "temperature"), [(2, 1.0), (1, 1.0), (3, 0.5)])
def test_arrow(name, top_k, temperature, tmp_path):
    mine, other = arrow_twins(name, tmp_path, 0, top_k, temperature)
    given = batch(name)
    cosines = copy_directions(mine, other, given)
    assert min(cosines) > 0.7  # 15 iterations get near where two singular values are near each other
    with torch.no_grad():
        y, z = mine(**given).logits, other(**given).logits
        difference = (y - z).abs().max().item()
        assert difference <= 5e-6 * max(1, y.abs().max()) and (y - host(name)(**given).logits).abs().max() > 1e-2
    record("Arrow", "peft 0.21.2", difference)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")
def test_peft_puts_its_router_on_every_layer_with_the_last_word_of_a_target(tmp_path, monkeypatch):
    """Experts at mlp.c_proj alone: peft also routes attn.c_proj, which has none, and fails. Ours does what is said."""
    monkeypatch.setitem(EXPERT_TARGETS, "gpt2", ["mlp.c_proj"])
    mine, other = arrow_twins("gpt2", tmp_path)
    assert mine(**batch("gpt2")).logits.isfinite().all()
    with pytest.raises(RuntimeError, match="non-empty"):
        other(**batch("gpt2"))


@pytest.mark.parametrize("exact", [False, True])
def test_arrow_after_genknowsub(exact, tmp_path):
    """peft subtracts A from A and B from B, as the authors' code does; that is not the difference of the changes."""
    mine, other = arrow_twins("llama", tmp_path, general=2, exact=exact)
    given = batch("llama")
    if exact:
        with torch.no_grad():
            assert (mine(**given).logits - other(**given).logits).abs().max() > 1e-2
        return
    copy_directions(mine, other, given)
    with torch.no_grad():
        assert (mine(**given).logits - other(**given).logits).abs().max() <= 5e-6


def test_pefts_gate_is_had_by_copying_its_prototypes(tmp_path):
    mine, other = arrow_twins("llama", tmp_path)
    given = batch("llama")
    with torch.no_grad():
        z = other(**given).logits
        for site, a in adapters(mine):
            a.v.copy_(other.base_model.model.get_submodule(site).lora_arrow["arrow_router"].prototypes)
        assert (mine(**given).logits - z).abs().max() <= 5e-6


def test_fifteen_power_iterations_do_not_find_the_direction_where_two_are_nearly_as_long():
    """The paper takes the singular vector itself; peft's 15 steps stop between the two. Ours is the exact one."""
    from peft.tuners.lora.arrow import ArrowLoraLinearLayer

    g = torch.Generator().manual_seed(0)
    A = torch.linalg.qr(torch.randn(30, 2, generator=g)).Q.T.contiguous()
    B = torch.linalg.qr(torch.randn(20, 2, generator=g)).Q * torch.tensor([1.0, 0.99])
    exact = torch.linalg.svd(B @ A).Vh[0]
    theirs = ArrowLoraLinearLayer.top_right_singular_vec_from_BA(SimpleNamespace(rng_seed=0), A, B)
    assert (theirs @ exact).abs() < 0.98
    assert (arrow.direction(A, B).float() @ exact).abs() > 1 - 1e-6


# MTL-LoRA -------------------------------------------------------------------------------------------------------------


def test_mtl_lora_equals_what_adapters_recorded():
    """One layer of a BERT with three tasks in the `adapters` library: see oracles/mtl_lora.py."""
    t = load_file(FIXTURE)
    with safe_open(FIXTURE, "pt") as f:
        header = f.metadata()
    base = nn.Linear(*reversed(t["W"].shape))
    with torch.no_grad():
        base.weight.copy_(t["W"]), base.bias.copy_(t["b"])
    settings = {
        k: float(header[k]) if k == "tau" else int(header[k]) for k in ("n_tasks", "rank", "alpha", "n_up", "tau")
    }
    layer = MTLLoRA(base, **settings)
    own = {k: getattr(layer, k) for k in ("A", "B", "Lambda", "w")}
    with torch.no_grad():
        for k, p in own.items():
            p.copy_(t[k])
    with task_ids(layer, t["ids"]):
        y = layer(t["x"])
    y.backward(t["grad_y"])
    scale = max(t[f"grad_{k}"].abs().max().item() for k in own)
    difference = max(
        [(y - t["y"]).abs().max().item()] + [(p.grad - t[f"grad_{k}"]).abs().max() / scale for k, p in own.items()]
    )
    assert difference <= 2e-6
    assert (y - base(t["x"])).abs().max() > 0.1
    record("MTL-LoRA", f"adapters {header['adapters']}", float(difference))
