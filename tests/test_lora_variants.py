"""LoRA's variants equal Hugging Face peft 0.21.2 on copied weights, but where peft leaves the paper: both are shown."""

from types import SimpleNamespace

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft, record
from torch import nn

from peft_from_scratch import LoRA, adapter_state, adapters, inject, load_adapter, merge, remove, switch, trained
from peft_from_scratch.methods.lowrank import kasa, monteclora
from peft_from_scratch.methods.lowrank.alora import NEVER, ALoRA, Invocation, invoked
from peft_from_scratch.methods.lowrank.bdlora import BDLoRA
from peft_from_scratch.methods.lowrank.dora import DoRA
from peft_from_scratch.methods.lowrank.kasa import KaSA
from peft_from_scratch.methods.lowrank.lora import uniform
from peft_from_scratch.methods.lowrank.monteclora import MonteCLoRA
from peft_from_scratch.methods.lowrank.patterns import lora_targets
from peft_from_scratch.methods.lowrank.qalora import QALoRA
from peft_from_scratch.methods.lowrank.starts.pissa import pissa
from peft_from_scratch.methods.lowrank.velora import VeLoRA

LINEAR = {
    "bert": ["query", "value", "intermediate.dense", "classifier"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
WITH_EMBEDDING = {
    "bert": [*LINEAR["bert"], "word_embeddings"],
    "gpt2": [*LINEAR["gpt2"], "wpe"],
    "llama": [*LINEAR["llama"], "embed_tokens"],
    "t5": LINEAR["t5"],
}
names = pytest.mark.parametrize("name", LINEAR)


def pairs(ours, theirs):
    """A and B, and DoRA's m where there is one."""
    if isinstance(ours.base, nn.Embedding):
        found = [(ours.A, theirs.lora_embedding_A["default"]), (ours.B, theirs.lora_embedding_B["default"])]
    else:
        found = [(ours.A, theirs.lora_A["default"].weight), (ours.B, theirs.lora_B["default"].weight)]
    if hasattr(ours, "m"):
        found.append((ours.m, theirs.lora_magnitude_vector["default"].weight))
    return found


def config(name, targets, rank=3, alpha=5, dropout=0.0, **more):
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        fan_in_fan_out=name == "gpt2",
        **more,
    )


# DoRA


@names
@pytest.mark.parametrize("rslora", [False, True])
def test_dora(name, rslora):
    their = config(name, WITH_EMBEDDING[name], use_dora=True, use_rslora=rslora)
    make = lambda base: DoRA(base, 3, 5, rslora=rslora)  # noqa: E731
    Twin(name, WITH_EMBEDDING[name], make, their, pairs).check("DoRA", name, tol=5e-6)


@names
def test_dora_in_training_with_dropout(name):
    their = config(name, WITH_EMBEDDING[name], dropout=0.4, use_dora=True)
    twin = Twin(name, WITH_EMBEDDING[name], lambda base: DoRA(base, 3, 5, 0.4), their, pairs)
    twin.check("DoRA", name, tol=5e-6, train_seed=5)


def conv():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, (3, 2), stride=2, padding=1), nn.Flatten())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dora_on_a_convolution(dropout):
    ours = inject(conv(), {"0": lambda base: DoRA(base, 3, 5, dropout)})
    theirs = peft.get_peft_model(conv(), config("", ["0"], use_dora=True, dropout=dropout))
    stir(trained(ours).values())
    a, b = ours[0], theirs.base_model.model[0]
    params = {a.A: b.lora_A["default"].weight, a.B: b.lora_B["default"].weight}
    params[a.m] = b.lora_magnitude_vector["default"].weight
    x, outs = torch.randn(2, 4, 9, 8), []
    with torch.no_grad():
        for mine, their in params.items():
            their.copy_(mine.view(their.shape))
    for model in (ours.train(), theirs.train()):
        torch.manual_seed(5)
        outs.append(model(x))
        outs[-1].square().mean().backward()
    assert (outs[0] - outs[1]).abs().max() <= 1e-5
    for mine, their in params.items():
        assert (mine.grad - their.grad.view(mine.shape)).abs().max() <= 1e-5


def test_dora_keeps_the_length_of_rows_at_m_and_turns_them_with_a_and_b():
    layer = DoRA(nn.Linear(12, 8), rank=3)
    stir([layer.A, layer.B, layer.m])
    assert torch.allclose(layer.merged().weight.norm(dim=1), layer.m.abs(), atol=1e-5)


def test_dora_on_a_start_that_takes_something_off():
    layer = DoRA(nn.Linear(12, 8), rank=3, start=pissa)
    assert torch.equal(layer.m, layer.base.weight.norm(dim=1))


def test_dora_counts_and_starts_on_the_meta_device():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2))  # the sizes of Llama-2-7B
    model = inject(model, {(r".*q_proj", r".*v_proj"): DoRA})
    assert sum(p.numel() for p in trained(model).values()) == 2 * 2 * (8 * (4096 + 4096) + 4096)


# A bias of LoRA's own


@names
def test_bias(name):
    def with_bias(ours, theirs):
        return [*pairs(ours, theirs), (ours.b, theirs.lora_B["default"].bias)]

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Llama's layers have no bias to merge it into
        their = config(name, LINEAR[name], lora_bias=True)
        twin = Twin(name, LINEAR[name], lambda base: LoRA(base, 3, 5, bias=True), their, with_bias)
        twin.check("LoRA with a bias", name)


def test_a_bias_that_cannot_be_merged_says_so():
    with pytest.raises(NotImplementedError, match="no bias to take up"):
        LoRA(nn.Linear(4, 3, bias=False), bias=True).merged()


# A rank for each pattern


def test_ranks_and_alphas_for_patterns():
    model = inject(host("bert"), lora_targets({r".*query": 2, r".*value": 4}, {r".*value": 3}, dropout=0.1))
    found = {site.split(".")[-1]: a for site, a in adapters(model)}
    assert (found["query"].rank, found["query"].alpha) == (2, 16)
    assert (found["value"].rank, found["value"].alpha) == (4, 3) and found["value"].dropout.p == 0.1
    with pytest.raises(ValueError, match="give the same patterns a rank"):
        lora_targets({r".*query": 2}, {r".*key": 3})


# aLoRA

CALL = [7, 9]


def calling(name="llama"):
    """Three rows: called twice, never, and at the very end."""
    given = batch(name)
    ids = given["input_ids"]
    ids[ids == CALL[0]] = 8
    ids[0, 1:3], ids[0, 4:6] = torch.tensor(CALL), torch.tensor(CALL)
    ids[2, -2:] = torch.tensor(CALL)
    return given


def alora_twin(name):
    shared = Invocation(CALL)
    their = config(name, LINEAR[name], task_type="CAUSAL_LM", alora_invocation_tokens=CALL)
    return Twin(name, LINEAR[name], lambda base: ALoRA(base, shared, 3, 5), their, pairs)


def test_alora():
    """Llama alone: peft 0.21.2 has aLoRA for Linear layers of causal models; ours on Conv1D is tested below."""
    twin, given = alora_twin("llama"), calling()
    with invoked(twin.ours, given["input_ids"]):
        twin.check("aLoRA", given)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_alora_leaves_what_stands_before_the_invocation(name):
    shared, given = Invocation(CALL), calling(name)
    model = inject(host(name), {tuple(rf".*{t}" for t in LINEAR[name]): lambda base: ALoRA(base, shared, 3, 5)}).eval()
    stir(trained(model).values())
    plain = host(name)(**given).logits
    with invoked(model, given["input_ids"]):
        out = model(**given).logits
    assert torch.equal(out[0, :4], plain[0, :4]) and torch.equal(out[1], plain[1])
    assert not torch.isclose(out[0, 4:], plain[0, 4:]).all(-1).any()
    with pytest.raises(RuntimeError, match="run inside"):
        model(**given)
    with pytest.raises(RuntimeError, match="told of 2 rows"), invoked(model, given["input_ids"][:2]):
        model(**given)


@pytest.mark.parametrize("beams", [1, 3])
def test_alora_generates(beams):
    twin, given = alora_twin("llama"), calling()
    ids = {k: given[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=8, do_sample=False, num_beams=beams, pad_token_id=0)
    with invoked(twin.ours, ids["input_ids"]):
        out = twin.ours.generate(**ids, **kw)
    assert not torch.equal(out, twin.base.generate(**ids, **kw)), "the adapters must matter"
    if beams == 1:  # peft 0.21.2 keeps one offset a row, and fails where beams make more rows
        assert torch.equal(out, twin.theirs.generate(**ids, **kw))
    with invoked(twin.ours, ids["input_ids"]):  # the cache changes nothing
        assert torch.equal(out, twin.ours.generate(**ids, **kw, use_cache=False)) or beams > 1


@pytest.mark.parametrize(
    ("ids", "expected"), [([1, 7, 9, 2], 1), ([7, 9, 7, 9], 2), ([1, 2, 7], None), ([9, 7, 7, 9], 2), ([1], None)]
)
def test_alora_finds_the_last_occurrence(ids, expected):
    found = Invocation(CALL).find(torch.tensor([ids])).tolist()
    assert found == [NEVER if expected is None else expected]


def test_alora_in_a_copy_and_with_two_sets():
    import copy

    shared, given = Invocation(CALL), calling()
    model = inject(host("llama"), {r".*q_proj": lambda base: ALoRA(base, shared, 3, 5)}).eval()
    model = inject(model, {r".*q_proj": lambda base: LoRA(base, 2)}, name="other")
    twin = copy.deepcopy(switch(model, "default"))
    stir(trained(twin).values())
    with invoked(twin, given["input_ids"]):
        assert not torch.equal(twin(**given).logits, host("llama")(**given).logits)
    assert torch.equal(remove(twin)(**given).logits, host("llama")(**given).logits)


def test_alora_says_what_is_wrong():
    with pytest.raises(ValueError, match="at least one invocation token"):
        Invocation([])
    with pytest.raises(ValueError, match="leave Conv2d out"):
        ALoRA(nn.Conv2d(2, 2, 1), Invocation(CALL))


# QA-LoRA: peft has it for GPTQ layers alone, so its variant is called by itself


@pytest.mark.parametrize("group", [2, 6])
def test_qalora_with_pefts_factor(group):
    from peft.tuners.lora.variants import QALoraLinearVariant

    ours = QALoRA(nn.Linear(12, 8), rank=3, alpha=5, group=group, like_peft=True)
    stir([ours.A, ours.B])
    A, B = nn.Linear(12 // group, 3, bias=False), nn.Linear(3, 8, bias=False)
    A.weight.data, B.weight.data = ours.A.data.clone(), ours.B.data.clone()
    module = SimpleNamespace(
        lora_A={"default": A}, lora_B={"default": B}, lora_dropout={"default": nn.Identity()},
        scaling={"default": 5 / 3}, qalora_group_size={"default": group}, training=True, in_features=12,
    )  # fmt: skip
    x = torch.randn(2, 5, 12)
    theirs = QALoraLinearVariant.forward(module, "default", x, ours.base(x))
    out = ours(x)
    assert (out - theirs).abs().max() <= 1e-6
    record("QA-LoRA", "peft 0.21.2", (out - theirs).abs().max().item())
    out.square().sum().backward(), theirs.square().sum().backward()
    assert torch.allclose(ours.A.grad, A.weight.grad, atol=1e-4) and torch.allclose(
        ours.B.grad, B.weight.grad, atol=1e-4
    )


def test_qalora_merges_into_the_zero_points_of_a_quantised_weight():
    """The paper's claim, without a low-rank term left: W = scale (codes - zero) has the codes and scales it had."""
    group, codes = 4, torch.randint(0, 16, (8, 3, 4)).float()
    scale, zero = torch.rand(8, 3, 1) + 0.1, torch.randint(0, 16, (8, 3, 1)).float()
    base = nn.Linear(12, 8)
    base.weight.data = (scale * (codes - zero)).flatten(1)
    layer = QALoRA(base, rank=2, alpha=3, group=group)
    stir([layer.A, layer.B])
    shifted = zero - (layer.scale * layer.B @ layer.A)[..., None] / scale
    assert torch.allclose((scale * (codes - shifted)).flatten(1), layer.merged().weight, atol=1e-5)


def test_qalora_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"use one of \[2, 3, 4, 6, 12\]"):
        QALoRA(nn.Linear(12, 8), group=5)
    with pytest.raises(ValueError, match="not Embedding"):
        QALoRA(nn.Embedding(12, 8))


# BD-LoRA


@pytest.mark.parametrize("diagonal", ["A", "B"])
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_bdlora(name, diagonal):
    from peft import BdLoraConfig

    where = {f"target_modules_bd_{diagonal.lower()}": LINEAR[name]}
    their = config(name, LINEAR[name], rank=4, use_bdlora=BdLoraConfig(nblocks=2, **where))
    make = lambda base: BDLoRA(base, 4, 5, blocks=2, diagonal=diagonal)  # noqa: E731
    Twin(name, LINEAR[name], make, their, pairs).check("BD-LoRA", name)


def test_bdlora_starts_narrower_than_in_peft():
    from peft import BdLoraConfig

    model = nn.Sequential(nn.Linear(400, 300))
    bound = 1 / 200**0.5
    assert BDLoRA(model[0], rank=64, diagonal="A").A.abs().max() <= bound
    bd = BdLoraConfig(nblocks=2, target_modules_bd_a=["0"])
    theirs = peft.get_peft_model(model, config("", ["0"], rank=64, use_bdlora=bd))
    drawn = theirs.base_model.model[0].lora_A["default"].weight.abs().max().item() / bound
    assert drawn == pytest.approx(6**0.5, rel=0.01)


def test_bdlora_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"use one of \[1, 2, 4\]"):
        BDLoRA(nn.Linear(12, 8), rank=4, blocks=3)
    with pytest.raises(ValueError, match="diagonal is"):
        BDLoRA(nn.Linear(12, 8), diagonal="C")
    with pytest.raises(ValueError, match="not Conv2d"):
        BDLoRA(nn.Conv2d(2, 2, 1))


# VeLoRA


@pytest.mark.parametrize("update", ["first", "each"])
@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_velora_in_training(name, update):
    from peft import VeloraConfig

    kind = {"first": "batch_average_once", "each": "batch_average"}[update]
    their = config(name, LINEAR[name], velora_config=VeloraConfig(num_groups=5, scale=0.7, init_type=kind))
    make = lambda base: VeLoRA(base, 3, 5, groups=5, update=update, times=0.7)  # noqa: E731
    twin = Twin(name, LINEAR[name], make, their, pairs)
    twin.check("VeLoRA", name, train_seed=5)
    twin.check("VeLoRA", name, train_seed=6)  # once v is set
    twin.check("VeLoRA", name)


def test_velora_gradient_is_exact_for_inputs_along_v_and_for_x():
    layer = VeLoRA(nn.Linear(12, 8), rank=3, groups=4, update="never").train()
    plain = LoRA(nn.Linear(12, 8), rank=3)
    plain.base, plain.A, plain.B = layer.base, nn.Parameter(layer.A.data.clone()), nn.Parameter(torch.randn(8, 3))
    layer.B.data = plain.B.data.clone()
    x = (torch.randn(2, 5, 4, 1) * layer.v).flatten(2).requires_grad_(True)
    grads = [torch.autograd.grad(m(x).square().sum(), [m.A, m.B, x]) for m in (layer, plain)]
    for mine, exact in zip(*grads, strict=True):
        assert torch.allclose(mine, exact, atol=1e-4)


def test_velora_keeps_one_number_a_group():
    saved = {}
    for adapter in (LoRA(nn.Linear(64, 8), 2), VeLoRA(nn.Linear(64, 8), 2, groups=4)):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()), lambda t: t):
            adapter.train()(torch.randn(50, 64))
        saved[type(adapter).__name__] = sum(sizes)
    assert saved["VeLoRA"] < saved["LoRA"] / 5


def test_velora_says_what_is_wrong():
    for wrong in (dict(groups=0), dict(groups=13), dict(update="always"), dict(times=0)):
        with pytest.raises(ValueError, match="VeLoRA needs"):
            VeLoRA(nn.Linear(12, 8), **wrong)
    with pytest.raises(ValueError, match="not Embedding"):
        VeLoRA(nn.Embedding(12, 8))


# MonteCLoRA


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_monteclora_in_eval(name):
    from peft import MontecloraConfig

    def with_priors(ours, theirs):
        sampler = theirs.lora_monteclora_sampler["default"]
        return [
            *pairs(ours, theirs), (ours.p, sampler.std_prior), (ours.q, sampler.expert_weights_prior)
        ]  # fmt: skip

    their = config(name, LINEAR[name], monteclora_config=MontecloraConfig(num_samples=4, buffer_size=2))
    twin = Twin(name, LINEAR[name], lambda base: MonteCLoRA(base, 3, 5, samples=4), their, with_priors)
    twin.check("MonteCLoRA", name)


def test_monteclora_draws_pefts_noise_from_the_same_numbers():
    from peft.tuners.lora.monteclora import MontecloraSampler

    ours = MonteCLoRA(nn.Linear(12, 8), rank=3, samples=4, noise=0.1)
    theirs = MontecloraSampler(12, 3, 4, sample_scaler=0.1, dirichlet_prior=0.1, buffer_size=1, device="cpu")
    stir([ours.p, ours.q])
    theirs.std_prior.data, theirs.expert_weights_prior.data = ours.p.data, ours.q.data
    torch.manual_seed(4)
    noise = ours.drawn()
    torch.manual_seed(4)
    Z, X, z = torch.randn(4, 3, 12), torch.randn(3, 3), torch.randn(4)
    variance = theirs.wishart_reparameterization(torch.diag(ours.p.exp()), X.T @ X)
    each = theirs.multivariate_reparameterization(Z.mT, variance)
    weights = torch.softmax(theirs.dirichlet_reparameterization(ours.q.exp(), z), -1)
    assert (torch.einsum("n,nij->ji", weights, each) - noise).abs().max() <= 1e-6


def test_monteclora_penalty_is_a_divergence_and_pefts_is_not():
    from peft.tuners.lora.monteclora import MontecloraSampler

    ours = MonteCLoRA(nn.Linear(12, 8), rank=3, samples=4)
    theirs = MontecloraSampler(12, 3, 4, dirichlet_prior=0.1, buffer_size=1, device="cpu")
    ours.q.data = torch.tensor([-2.0, -2.5, -1.5, -2.0])
    torch.manual_seed(4)
    total = ours.divergence(0.1)
    torch.manual_seed(4)
    v = ours.variances()
    dirichlet = torch.distributions.kl_divergence(
        torch.distributions.Dirichlet(ours.q.exp()), torch.distributions.Dirichlet(torch.full((4,), 0.1))
    )
    rest = theirs.wishart_kl(torch.diag(ours.p.exp())) + theirs.multivariate_kl(torch.diag(v))
    assert torch.isclose(total, dirichlet + rest, atol=1e-4)
    found = [theirs.dirichlet_kl(torch.full((4,), a)).item() for a in (0.05, 0.2, 0.5, 1.0, 2.0)]
    assert min(found) < -1 and dirichlet >= 0


def test_monteclora_penalty_trains_the_priors():
    model = inject(nn.Sequential(nn.Linear(12, 8)), {"0": lambda base: MonteCLoRA(base, 3)})
    monteclora.penalty(model, weight=1.0, concentration=True).backward()
    assert model[0].p.grad.any() and model[0].q.grad.any()
    with pytest.raises(ValueError, match="no MonteCLoRA adapters"):
        monteclora.penalty(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="above 0"):
        monteclora.penalty(model, prior=0)
    with pytest.raises(ValueError, match="at least one sample"):
        MonteCLoRA(nn.Linear(2, 2), samples=0)


# KaSA


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_kasa(name):
    from peft import KasaConfig

    def with_d(ours, theirs):
        return [*pairs(ours, theirs), (ours.d, theirs.lora_diag["default"])]

    rank = 1 if name == "bert" else 3  # the classifier has two directions
    twin = Twin(
        name,
        LINEAR[name],
        lambda base: KaSA(base, rank, 5, dropout=0.4),
        config(name, LINEAR[name], rank, dropout=0.4, kasa_config=KasaConfig(beta=0.1, gamma=0.2)),
        with_d,
    )
    twin.check("KaSA", name, tol=2e-5)  # theirs puts W together again from its singular values
    twin.check("KaSA", name, tol=2e-5, train_seed=5)
    mine, other = kasa.penalty(twin.ours, 0.1, 0.2), twin.theirs.base_model._get_kasa_loss()
    assert torch.isclose(mine, other, rtol=1e-6)
    for model, loss in ((twin.ours, mine), (twin.theirs, other)):
        model.zero_grad()
        loss.backward()
    assert max((a.grad - b.grad).abs().max() for a, b in twin.pairs()) <= 1e-6


def test_kasa_leaves_the_base_whole_and_peft_does_not():
    from peft import KasaConfig

    given, plain = batch("llama"), host("llama")
    before = plain(**given).logits
    ours = inject(host("llama"), {r".*q_proj": lambda base: KaSA(base, 3)}).eval()
    assert torch.equal(remove(ours)(**given).logits, before)
    theirs = peft.get_peft_model(plain, config("llama", LINEAR["llama"], kasa_config=KasaConfig())).eval()
    with theirs.disable_adapter():
        assert (theirs(**given).logits - before).abs().max() > 1e-4


def test_kasa_says_what_is_wrong():
    with pytest.raises(ValueError, match="use fewer than 8"):
        KaSA(nn.Linear(12, 8), rank=8)
    with pytest.raises(ValueError, match="no KaSA adapters"):
        kasa.penalty(nn.Linear(2, 2))


# All of them in a model


@pytest.mark.parametrize("make", [DoRA, KaSA, MonteCLoRA, lambda b: VeLoRA(b, groups=4), lambda b: BDLoRA(b, blocks=4)])
def test_saved_loaded_merged_and_switched_in_a_model(make):
    given = batch("llama")
    model = inject(host("llama"), {"all-linear": make}).eval()
    stir(trained(model).values(), std=0.05)
    y = model(**given).logits
    torch.manual_seed(9)
    again = load_adapter(inject(host("llama"), {"all-linear": make}).eval(), adapter_state(model))
    assert torch.equal(again(**given).logits, y)
    assert (merge(model)(**given).logits - y).abs().max() <= 1e-5
    model = inject(model, {"all-linear": lambda base: LoRA(base, 2, start=uniform)}, name="other")
    assert torch.equal(switch(model, "default")(**given).logits, y)
    assert torch.equal(switch(model, None)(**given).logits, host("llama")(**given).logits)
