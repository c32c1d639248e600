"""LoRA's starts equal Hugging Face peft 0.21.2's on the same weights and data, or both are shown where peft differs."""

import copy

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft, record, suffixes
from torch import nn

from peft_from_scratch import LoRA, adapters, inject, merge, remove, trained
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.lowrank.starts.collect import attended, each_input, gradients
from peft_from_scratch.methods.lowrank.starts.corda import corda, covariances, damped
from peft_from_scratch.methods.lowrank.starts.eva import Moments, eva, shared_ranks
from peft_from_scratch.methods.lowrank.starts.gaussian import gaussian
from peft_from_scratch.methods.lowrank.starts.loftq import alternate, loftq
from peft_from_scratch.methods.lowrank.starts.lora_ga import lora_ga
from peft_from_scratch.methods.lowrank.starts.mica import MiCA
from peft_from_scratch.methods.lowrank.starts.olora import olora
from peft_from_scratch.methods.lowrank.starts.orthogonal import orthogonal
from peft_from_scratch.methods.lowrank.starts.pissa import fast_pissa, pissa

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
ORACLE = "peft 0.21.2"
names = pytest.mark.parametrize("name", TARGETS)


def config(name, start, rank=3, alpha=5, **more):
    targets = more.pop("targets", TARGETS.get(name))
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets,
        fan_in_fan_out=name == "gpt2",
        init_lora_weights=start,
        **more,
    )


def pairs(ours, theirs):
    if isinstance(ours.base, nn.Embedding):
        return [(ours.A, theirs.lora_embedding_A["default"]), (ours.B, theirs.lora_embedding_B["default"])]
    return [(ours.A, theirs.lora_A["default"].weight), (ours.B, theirs.lora_B["default"].weight)]


def together(ours, theirs):
    """Each of our adapters beside peft's layer at the same site."""
    body = theirs.base_model.model
    return [(ours_at, body.get_submodule(site)) for site, ours_at in adapters(ours)]


def check_start(method, name, their, factory, match=pairs, tol=2e-6):
    """The same A and B, the same model before and after they have moved."""
    targets = their.target_modules if isinstance(their.target_modules, list) else TARGETS[name]
    ours = inject(host(name), {suffixes(sorted(targets)): factory})
    theirs = peft.get_peft_model(host(name), their)
    for a, b in together(ours, theirs):
        for mine, other in match(a, b):
            assert (mine - other).abs().max() <= tol
    Twin(name, sorted(targets), factory, their, match).check(method, name, tol=2e-5, effect=1e-4)


def layer_of(d_in=12, d_out=8, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(d_in, d_out)


def their_layer(start, rank=4, alpha=5, base=None):
    """peft's layer, of which a start can be called again."""
    model = nn.Sequential(base or layer_of())
    return peft.get_peft_model(model, config("", True, rank, alpha, targets=["0"])).base_model.model[0]


# From the weights


@names
def test_pissa(name):
    check_start("PiSSA", name, config(name, "pissa"), lambda base: LoRA(base, 3, 5, start=pissa))


def test_pissa_holds_the_best_approximation_whatever_alpha_is():
    base = layer_of()
    S = torch.linalg.svdvals(base.weight)
    for alpha in (1, 5, 40):
        A, B, _ = pissa(base, 3, alpha / 3)
        rest = base.weight - alpha / 3 * B @ A
        assert torch.allclose(torch.linalg.svdvals(rest)[:5], S[3:], atol=1e-5)


def test_fast_pissa_draws_pefts_numbers():
    theirs = their_layer("pissa", base=layer_of(40, 30))
    A, B, base = theirs.lora_A["default"].weight, theirs.lora_B["default"].weight, layer_of(40, 30)
    torch.manual_seed(3)
    theirs.pissa_init("default", "pissa_niter_4")
    torch.manual_seed(3)
    start = fast_pissa(4)(base, 4, 5 / 4)
    assert (start.A - A).abs().max() <= 1e-6 and (start.B - B).abs().max() <= 1e-6
    exact = pissa(layer_of(40, 30), 4, 5 / 4)
    assert torch.allclose(fast_pissa(30)(layer_of(40, 30), 4, 5 / 4).B.norm(), exact.B.norm(), rtol=1e-3)


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_olora(name):
    check_start("OLoRA", name, config(name, "olora"), lambda base: LoRA(base, 3, 5, start=olora))


def test_peft_decomposes_gpt2s_weight_as_stored_and_we_do_not():
    their = config("gpt2", "olora", targets=["c_attn"])
    with pytest.raises(RuntimeError):
        peft.get_peft_model(host("gpt2"), their)(**batch("gpt2"))
    ours = inject(host("gpt2"), {r".*c_attn": lambda base: LoRA(base, 3, start=olora)})
    for _, a in adapters(ours):
        assert torch.allclose(a.B.T @ a.B, torch.eye(3), atol=1e-5)
        Q, R = torch.linalg.qr(weight_of(a.base))
        assert torch.equal(a.A, R[:3]) and torch.equal(a.B, Q[:, :3])


def test_orthogonal():
    theirs, base = their_layer("orthogonal"), layer_of()
    torch.manual_seed(3)
    theirs.orthogonal_init("default")
    torch.manual_seed(3)
    start = orthogonal(base, 4, 1.0)
    assert torch.equal(start.A, theirs.lora_A["default"].weight) and torch.equal(
        start.B, theirs.lora_B["default"].weight
    )
    record("LoRA, orthogonal start", ORACLE, 0.0)
    assert (start.B @ start.A).abs().max() <= 1e-7 and start.A.any() and start.B.any()


def test_gaussian():
    start = gaussian(nn.Linear(4000, 30), 16, 1.0)
    assert start.A.std().item() == pytest.approx(1 / 16, rel=0.02) and not start.B.any()


@names
def test_mica(name):
    targets = [*TARGETS[name], *{"bert": ["word_embeddings"], "llama": ["embed_tokens"]}.get(name, [])]
    check_start("MiCA", name, config(name, "mica", targets=targets), lambda base: MiCA(base, 3, 5))


def test_mica_trains_a_alone():
    model = inject(host("llama"), {r".*q_proj": MiCA})
    assert {k.split(".")[-1] for k in trained(model)} == {"A"}


# From data


def batches(name, n=3, rows=3):
    return [batch(name, rows=rows, seed=s) for s in range(n)]


def their_covariances(model, targets, given):
    """peft's, which stay on the layers if asked to."""
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    their = config(
        "", "corda", targets=targets, corda_config=CordaConfig(corda_method="ipm", prune_temporary_fields=False)
    )
    preprocess_corda(model, their, run_model=lambda: [model(**b) for b in given])
    return {m: m.covariance_matrix for m in model.modules() if hasattr(m, "covariance_matrix")}


@pytest.mark.parametrize("mode", ["ipm", "kpm"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_corda(name, mode):
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    given = batches(name, rows=1)
    theirs = host(name)
    found = their_covariances(theirs, TARGETS[name], given)
    sites = {m: site for site, m in theirs.named_modules()}
    plain = host(name)
    mine = {plain.get_submodule(sites[m]): C for m, C in found.items()}
    their = config(name, "corda", corda_config=CordaConfig(corda_method=mode))
    theirs = host(name)
    preprocess_corda(theirs, their, run_model=lambda: [theirs(**b) for b in given])
    theirs = peft.get_peft_model(theirs, their).eval()
    ours = inject(plain, {suffixes(TARGETS[name]): lambda base: LoRA(base, 3, 5, start=corda(mine, mode))}).eval()
    for a, b in together(ours, theirs):
        for one, other in pairs(a, b):  # a vector's sign is the driver's, and B A has none
            assert (one.abs() - other.abs()).abs().max() <= 5e-4 * max(1, other.abs().max())
        with torch.no_grad():
            for one, other in pairs(a, b):
                one += 0.1
                other.copy_(one)
    g = batch(name)
    difference = (ours(**g).logits - theirs(**g).logits).abs().max().item()
    assert difference <= 1e-4
    record("CorDA", ORACLE, difference)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.two(self.one(x))


def test_covariances_are_pefts_where_the_largest_input_is_positive():
    torch.manual_seed(0)
    model, given = Two(), [{"x": torch.randn(1, 9, 6).clamp(-1, 3)} for _ in range(3)]
    for b in given:
        b["x"][0, 0, 0] = 3.0
    theirs = copy.deepcopy(model)
    other = their_covariances(theirs, ["one"], given)
    mine = covariances(model, "one", given)
    assert torch.allclose(mine[model.one], other[theirs.one], atol=1e-5)


def test_peft_divides_by_the_largest_input_and_we_by_the_largest_size():
    """All inputs negative: C should not depend on their scale; in peft a small maximum makes it as large as can be."""
    model, x = Two(), -torch.rand(1, 9, 6) - 1e-3
    x[0, 0, 0] = -1e-6
    mine = covariances(model, "one", [x])[model.one]
    assert mine.max() <= 9
    other = their_covariances(copy.deepcopy(model), ["one"], [{"x": x}])
    assert next(iter(other.values())).max() > 1e9


def test_corda_splits_the_weight_by_use():
    """What the data never touches is the kpm part: adapting it leaves the outputs on that data almost as they were."""
    torch.manual_seed(0)
    base = nn.Linear(12, 8, bias=False)
    x = torch.randn(200, 4) @ torch.randn(4, 12)  # data in four directions
    C = x.T @ x
    ipm, kpm = (LoRA(base, 3, 3, start=corda({base: C}, mode)) for mode in ("ipm", "kpm"))
    for layer in (ipm, kpm):
        assert torch.equal(layer(x), base(x))
    used = [(x @ (layer.B @ layer.A).T).norm() for layer in (ipm, kpm)]
    assert used[0] > 3 * used[1]


def test_damping_grows_until_the_inverse_is_one():
    C = torch.diag(torch.tensor([1.0] + [0.0] * 9))
    fixed, inverse = damped(C)
    assert torch.dist(fixed @ inverse, torch.eye(10)) < 0.05


def test_eva_finds_pefts_components_and_ranks():
    name, given = "llama", batches("llama", n=4, rows=8)
    targets = eva(host(name), suffixes(TARGETS[name]), given, rank=3, alpha=5)
    ours = inject(host(name), targets)
    from peft.tuners.lora.config import EvaConfig

    their = config(name, "eva", eva_config=EvaConfig(rho=2.0, tau=0.99))
    other = peft.get_eva_state_dict(host(name), given, their, show_progress_bar=False)
    mine = {site: a for site, a in adapters(ours)}
    assert sum(a.rank for a in mine.values()) == sum(len(v) for v in other.values()) == 3 * len(other)
    assert {s: a.rank for s, a in mine.items()} == {s: len(v) for s, v in other.items() if len(v)}
    for site, a in mine.items():  # theirs is randomised: the same plane, and nearly the same vectors
        assert (a.A @ other[site].float().T).norm() ** 2 / a.rank > 0.9
        assert a.scale == pytest.approx(5 / 3)


def test_eva_components_are_those_of_an_exact_incremental_pca():
    from peft.utils.incremental_pca import IncrementalPCA

    torch.manual_seed(0)
    x = torch.randn(3, 60, 8) * torch.arange(1, 9) + 5
    theirs, mine = IncrementalPCA(n_components=8), Moments()
    for part in x:
        theirs.partial_fit(part)
        mine.add(part)
    share, directions = mine.components(8)
    assert torch.allclose(share, theirs.explained_variance_ratio_.double(), atol=1e-4)
    cosine = (directions * theirs.components_).sum(1).abs()
    assert (cosine > 1 - 1e-4).all()
    record("EVA", ORACLE, 1 - cosine.min().item())


def test_eva_looks_at_the_tokens_that_count():
    given = batch("llama")
    given["attention_mask"][:, :2] = 0
    given["labels"] = given["input_ids"].clone()
    given["labels"][0] = -100
    assert attended(given).sum() == 2 * 5
    seen = []
    each_input(host("llama"), r".*q_proj", [given], lambda layer, x: seen.append(len(x)), attended)
    assert seen == [10, 10]
    assert attended(batch("bert")).sum() == 19 and attended(torch.zeros(1)) is None


def test_ranks_follow_the_variance_and_may_be_none():
    a, b, c = (nn.Identity() for _ in range(3))
    shares = {a: torch.tensor([0.9, 0.05, 0.05]), b: torch.tensor([0.4, 0.35, 0.25]), c: torch.tensor([0.01, 0.0, 0.0])}
    assert shared_ranks(shares, rank=1) == {a: 1, b: 2, c: 0}
    assert shared_ranks({k: s[:1] for k, s in shares.items()}, rank=1) == {a: 1, b: 1, c: 1}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_gradients_are_pefts(name):
    from peft.tuners.lora.config import LoraGAConfig
    from peft.tuners.lora.loraga import preprocess_loraga

    ours, theirs, given = host(name), host(name), batches(name)
    for model in (ours, theirs):
        for m in model.modules():
            if isinstance(m, nn.Dropout):
                m.p = 0.0
            if isinstance(getattr(m, "dropout", None), float):
                m.dropout = 0.0
    their = config(name, "lora_ga", lora_ga_config=LoraGAConfig())
    preprocess_loraga(theirs, their, train_step=lambda: [theirs(**b).loss.backward() for b in given])
    for layer, mine in gradients(ours, suffixes(TARGETS[name]), given).items():
        site = next(s for s, m in ours.named_modules() if m is layer)
        other = theirs.get_submodule(site)._peft_loraga_grad
        other = other.T if name == "gpt2" else other
        assert (mine - other).abs().max() <= 1e-6 * max(1, other.abs().max())


def test_lora_ga_with_pefts_arithmetic():
    from peft.tuners.lora.config import LoraGAConfig

    G = torch.randn(30, 40, generator=torch.Generator().manual_seed(3))
    for direction in ("ArB2r", "A2rBr", "ArBr"):
        theirs, base = their_layer("lora_ga", base=layer_of(40, 30)), layer_of(40, 30)
        theirs.get_base_layer()._peft_loraga_grad = G
        torch.manual_seed(3)
        theirs.lora_ga_init("default", LoraGAConfig(direction=direction))
        torch.manual_seed(3)
        mine = lora_ga({base: G}, direction, like_peft=True)(base, 4, 5 / 4)
        assert (mine.A - theirs.lora_A["default"].weight).abs().max() <= 1e-6
        difference = (mine.B - theirs.lora_B["default"].weight).abs().max().item()
        assert difference <= 1e-5
        record("LoRA-GA", ORACLE, difference)
        plain = lora_ga({base: G}, direction)(base, 4, 5 / 4)
        assert (plain.B @ plain.A).norm() < 0.1 * (mine.B @ mine.A).norm()  # where G is large; small G: the other way


def test_lora_ga_steps_as_full_fine_tuning_does():
    """The paper's theorem: B Bᵀ G + G Aᵀ A, the first step of B A, is c² times the best rank-2r part of G."""
    base, G = layer_of(40, 30), torch.randn(30, 40, dtype=torch.float64)
    U, S, Vt = torch.linalg.svd(G, full_matrices=False)
    G = U * (S * torch.logspace(0, -6, 30, dtype=torch.float64)) @ Vt  # so that the randomised SVD finds them
    A, B, _ = lora_ga({base: G}, gamma=16)(base, 4, 1.0)
    best = U[:, :8] * (S * torch.logspace(0, -6, 30, dtype=torch.float64))[:8] @ Vt[:8]
    c = 30**0.25 / 16**0.5
    assert torch.allclose(B @ B.T @ G + G @ A.T @ A, c**2 * best, atol=1e-4)


@pytest.mark.parametrize("scaling", ["gd", "weight", "unit"])
def test_lora_ga_scalings(scaling):
    base, G = layer_of(), torch.randn(8, 12)
    A, B, subtract = lora_ga({base: G}, "random", scaling)(base, 2, 2.5)
    expected = {
        "gd": 1 / 2.5,
        "unit": 1.0,
        "weight": (torch.linalg.svdvals(base.weight)[:2] / 2.5).sqrt().mean().item(),
    }
    assert subtract and torch.allclose(A.norm(dim=1), torch.full((2,), expected[scaling]), atol=1e-5)
    assert torch.allclose(B.norm(dim=0), torch.full((2,), expected[scaling]), atol=1e-5)


# From a quantiser


def coarse(W):
    """A stand-in for a quantiser of three bits."""
    step = W.abs().max() / 3.5
    return (W / step).round() * step


def test_loftq_equals_pefts_on_nf4():
    """peft's runs on a GPU alone: here its device is turned into the CPU."""
    bnb = pytest.importorskip("bitsandbytes")
    from peft.utils.loftq_utils import loftq_init
    from torch.overrides import TorchFunctionMode

    class OnTheCPU(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            swap = lambda a: torch.device("cpu") if str(a).startswith("cuda") and not torch.is_tensor(a) else a  # noqa: E731
            return func(*map(swap, args), **{k: swap(v) for k, v in (kwargs or {}).items()})

    def nf4(W):
        codes = bnb.nn.Params4bit(W, requires_grad=False, compress_statistics=False, quant_type="nf4").to("cpu")
        return bnb.functional.dequantize_4bit(codes.data, codes.quant_state)

    W = layer_of(64, 32).weight.detach()
    for steps in (1, 3):
        with OnTheCPU():
            Q, A, B = loftq_init(W, num_bits=4, reduced_rank=4, num_iter=steps)
        mine, start = alternate(W, nf4, 4, 1.0, steps)
        assert torch.equal(mine, Q)
        difference = max((start.A - A).abs().max().item(), (start.B - B).abs().max().item())
        assert difference <= 1e-5
        record("LoftQ", ORACLE, difference)


def test_loftq_is_nearer_than_quantising_alone_whatever_alpha_is():
    W = layer_of(24, 16).weight.detach()
    alone = (W - coarse(W)).norm()
    errors = []
    for steps in (1, 5):
        for scale in (0.5, 1.0, 4.0):
            Q, (A, B, _) = alternate(W, coarse, 4, scale, steps)
            errors.append((W - Q - scale * B @ A).norm() / alone)
    assert max(errors) < 0.85
    assert errors[0] == pytest.approx(errors[2].item(), rel=1e-4)


@names
def test_loftq_in_a_model(name):
    plain, given = host(name), batch(name)
    quantised, targets = loftq(plain, suffixes(TARGETS[name]), coarse, rank=3, alpha=5, steps=2, dropout=0.0)
    quantised.requires_grad_(False)  # or torch folds the matrix products otherwise than in the adapted model
    y, alone = plain(**given).logits, quantised(**given).logits
    model = inject(copy.deepcopy(quantised), targets).eval()
    start = model(**given).logits
    assert 0 < (start - y).norm() < (alone - y).norm()
    stir(trained(model).values(), std=0.05)
    assert (merge(model)(**given).logits - model(**given).logits).abs().max() <= 1e-5
    assert torch.equal(remove(model)(**given).logits, alone) and torch.equal(plain(**given).logits, y)


# What goes wrong


def test_looking_at_data_leaves_nothing_behind():
    model = host("bert").train()
    model.classifier.weight.requires_grad_(False)
    before = {k: p.requires_grad for k, p in model.named_parameters()}
    for look in (
        lambda b: covariances(model, r".*query", b),
        lambda b: gradients(model, r".*query", b),
        lambda b: eva(model, r".*query", b),
    ):
        look(batches("bert"))
        with pytest.raises((ValueError, TypeError)):
            look([{"nonsense": torch.zeros(1)}])
        with pytest.raises(ValueError, match="no batches"):
            look([])
    assert model.training and all(m.training for m in model.modules())
    assert {k: p.requires_grad for k, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_starts_say_what_is_wrong():
    base = layer_of()
    for start in (pissa, fast_pissa(), olora, corda({base: torch.eye(12)})):
        with pytest.raises(ValueError, match="use a rank up to 8, not 9"):
            LoRA(base, rank=9, start=start)
    with pytest.raises(ValueError, match="use a rank up to 8, not 9"):
        MiCA(base, rank=9)
    with pytest.raises(ValueError, match="even rank, not 3: use 2 or 4"):
        LoRA(base, rank=3, start=orthogonal)
    with pytest.raises(ValueError, match="use a rank up to 4, not 5"):
        LoRA(base, rank=5, start=lora_ga({base: torch.randn(8, 12)}))
    for start in (corda({}), lora_ga({})):
        with pytest.raises(ValueError, match="was collected for this layer"):
            LoRA(base, rank=2, start=start)
    with pytest.raises(ValueError, match="mode is 'ipm'"):
        corda({}, "both")
    with pytest.raises(ValueError, match="direction is one of"):
        lora_ga({}, "left")
    with pytest.raises(ValueError, match="like_peft"):
        lora_ga({}, scaling="gd", like_peft=True)
    with pytest.raises(ValueError, match="rho"):
        eva(host("bert"), r".*query", batches("bert"), rho=0.5)
    with pytest.raises(ValueError, match="leave Embedding out"):
        covariances(host("bert"), r".*word_embeddings", batches("bert"))
    with pytest.raises(ValueError, match="at least one step"):
        loftq(host("bert"), r".*query", coarse, steps=0)
