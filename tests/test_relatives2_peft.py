"""More low rank and the transforms: equal to Hugging Face peft 0.21.2 on copied weights, or why not; exact counts."""

import copy

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft
from torch import nn

from peft_from_scratch import LoRA, adapter_state, inject, merge, switch, trained
from peft_from_scratch.layers import weight_of
from peft_from_scratch.methods.lowrank import frod
from peft_from_scratch.methods.lowrank.deft import DEFT
from peft_from_scratch.methods.lowrank.delora import DeLoRA
from peft_from_scratch.methods.lowrank.frod_basis import Basis
from peft_from_scratch.methods.lowrank.glora import GLoRA
from peft_from_scratch.methods.lowrank.gralora import GraLoRA
from peft_from_scratch.methods.lowrank.hira import HiRA
from peft_from_scratch.methods.lowrank.miss import MiSS
from peft_from_scratch.methods.lowrank.peanut import PEANuT
from peft_from_scratch.methods.lowrank.psoft import PSOFT
from peft_from_scratch.methods.transform.c3a import C3A
from peft_from_scratch.methods.transform.fourierft import FourierFT
from peft_from_scratch.methods.transform.waveft import WaveFT, daubechies

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
TOKENS = {"bert": ["word_embeddings"], "gpt2": ["wte"], "llama": ["embed_tokens"], "t5": []}
LINEAR = ("bert", "llama", "t5")  # peft has no Conv1D for these methods
ALL = tuple(TARGETS)


def on(models, names, cases):
    """Every model with every case."""
    return pytest.mark.parametrize(("model", *names.split()), [(m, *case) for m in models for case in cases])


def lively(name):
    """The tiny host, and for BERT larger weights: as it starts, its logits hardly feel what is done below."""
    model = host(name)
    if name == "bert":
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data.mul_(12)
    return model


def conv1d(model):
    return {"fan_in_fan_out": model == "gpt2"}


def by_name(**names):
    """Pairs our attributes with their {adapter: tensor} dicts (of modules: with the weight)."""

    def match(ours, theirs):
        pairs = [(getattr(ours, mine), getattr(theirs, other)["default"]) for mine, other in names.items()]
        return [(mine, getattr(other, "weight", other)) for mine, other in pairs if mine is not None]

    return match


# DeLoRA ----------------------------------------------------------------------------------------------------------

DELORA = by_name(A="delora_A", B="delora_B", lam="delora_lambda", norms="delora_w_norm")


@on(LINEAR, "rank strength", [(3, 0.5), (2, 4.0)])
def test_delora(model, rank, strength):
    config = peft.DeloraConfig(r=rank, delora_lambda=strength, target_modules=TARGETS[model])
    Twin(lively(model), TARGETS[model], lambda b: DeLoRA(b, rank, strength, start="zero"), config, DELORA).check(
        "DeLoRA", model
    )


def test_delora_with_dropout():
    config = peft.DeloraConfig(r=3, delora_lambda=0.5, module_dropout=0.4, target_modules=TARGETS["bert"])
    twin = Twin(lively("bert"), TARGETS["bert"], lambda b: DeLoRA(b, 3, 0.5, 0.4, "zero"), config, DELORA)
    twin.check("DeLoRA", "bert", train_seed=5)


def test_delora_start_of_the_paper_has_a_sane_first_gradient_and_peft_s_has_not():
    """Eq. 9: random and taken off. With B = 0 and lengths held at 1e-4 B's first gradient is 1000 times larger."""
    first = {}
    for start in ("random", "zero"):
        torch.manual_seed(0)
        base = nn.Linear(24, 16)
        layer = DeLoRA(base, rank=4, start=start)
        x = torch.randn(5, 24)
        assert torch.equal(layer(x), base(x))
        layer(x).square().sum().backward()
        first[start] = layer.B.grad.norm()
    assert first["zero"] > 1000 * first["random"]


def test_delora_stays_in_its_ball_however_far_the_factors_walk():
    """Eq. 7 with a norm per column: the change is at most λ times the longest column of W."""
    layer = DeLoRA(nn.Linear(24, 16), rank=4, strength=2.0, start="zero")
    with torch.no_grad():
        layer.A.normal_().mul_(1e3), layer.B.normal_().mul_(1e3)
    assert layer.change().norm() <= 2.0 * layer.norms.max()


# GraLoRA ---------------------------------------------------------------------------------------------------------

GRALORA = by_name(A="gralora_A", B="gralora_B", hybrid_A="gralora_A_general", hybrid_B="gralora_B_general")


def gralora(model, rank, alpha, hybrid, dropout=0.0):
    config = peft.GraloraConfig(
        r=rank, alpha=alpha, gralora_k=2, hybrid_r=hybrid, gralora_dropout=dropout, target_modules=TARGETS[model],
        **conv1d(model),
    )  # fmt: skip
    return Twin(
        lively(model), TARGETS[model], lambda b: GraLoRA(b, rank, alpha, 2, hybrid, dropout), config, _no_identity
    )


def _no_identity(ours, theirs):
    """Without a hybrid part they hold two nn.Identity there."""
    return [(a, b) for a, b in GRALORA(ours, theirs) if isinstance(b, torch.Tensor)]


@on(ALL, "rank alpha hybrid", [(4, 6, 0), (6, 3, 2)])
def test_gralora(model, rank, alpha, hybrid):
    gralora(model, rank, alpha, hybrid).check("GraLoRA", model)


def test_gralora_with_dropout():
    gralora("llama", 4, 8, 0, dropout=0.4).check("GraLoRA", "llama", train_seed=5)


def test_gralora_reaches_a_higher_rank_than_lora_for_the_same_count():
    layer = GraLoRA(nn.Linear(24, 16), rank=4, blocks=4)
    stir(trained(inject(nn.Sequential(layer.base), {"0": lambda b: layer})).values())
    assert sum(p.numel() for p in (layer.A, layer.B)) == 4 * (24 + 16)
    assert torch.linalg.matrix_rank(layer.change()) == 16


# GLoRA -----------------------------------------------------------------------------------------------------------


def glora_pairs(ours, theirs):
    pairs = []
    for name in "ABCDE":
        mine, other = getattr(ours, name), getattr(theirs, f"glora_{name}")["default"]
        names = {"left": "Xd", "right": "Xu"} if mine.form == "lora" else {"value": "X"} if mine.form != "none" else {}
        pairs += [(getattr(mine, a), getattr(other, b)) for a, b in names.items()]
    return pairs


@on(LINEAR, "AB C DE", [("lora", "lora", "constant"), ("vector", "vector", "vector"), ("constant", "none", "none")])
def test_glora(model, AB, C, DE):
    C_D_E = {} if model != "bert" else {"config_C": C, "config_D_E": DE}
    config = peft.GloraConfig(r=3, config_A_B=AB, target_modules=TARGETS[model], **C_D_E)
    Twin(lively(model), TARGETS[model], lambda b: GLoRA(b, 3, AB, C, DE), config, glora_pairs).check("GLoRA", model)


def test_glora_without_a_bias_leaves_out_c_d_and_e():
    layer = GLoRA(nn.Linear(12, 8, bias=False), rank=3)
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == 2 * 3 * (12 + 8)


# HiRA ------------------------------------------------------------------------------------------------------------


def hira_pairs(ours, theirs):
    names = ("hira_embedding_A", "hira_embedding_B") if isinstance(ours.base, nn.Embedding) else ("hira_A", "hira_B")
    return by_name(A=names[0], B=names[1])(ours, theirs)


@on(ALL, "rank dropout", [(3, 0.0), (2, 0.4)])
def test_hira(model, rank, dropout):
    targets = TARGETS[model] + TOKENS[model]
    config = peft.HiraConfig(r=rank, hira_dropout=dropout, target_modules=targets, **conv1d(model))
    twin = Twin(lively(model), targets, lambda b: HiRA(b, rank, dropout), config, hira_pairs)
    twin.check("HiRA", model, train_seed=5 if dropout else None)


def test_hira_on_a_convolution():
    net = nn.Sequential(nn.Conv2d(4, 6, (3, 3), stride=2, padding=1), nn.Flatten())
    theirs = peft.get_peft_model(copy.deepcopy(net), peft.HiraConfig(r=3, target_modules=["0"]))
    ours = inject(net, {"0": lambda b: HiRA(b, 3)})
    stir(trained(ours).values())
    their = theirs.base_model.model[0]
    with torch.no_grad():
        their.hira_A["default"].copy_(ours[0].A.view(3, 4, 3, 3))
        their.hira_B["default"].copy_(ours[0].B.view(6, 3, 1, 1))
    x = torch.randn(2, 4, 9, 8)
    assert (ours(x) - theirs(x)).abs().max() <= 1e-6
    ours(x).square().sum().backward(), theirs(x).square().sum().backward()
    assert torch.allclose(ours[0].A.grad, their.hira_A["default"].grad.view(3, -1), rtol=1e-5, atol=1e-5)
    assert torch.allclose(ours[0].B.grad, their.hira_B["default"].grad.view(6, 3), rtol=1e-5, atol=1e-5)


# MiSS ------------------------------------------------------------------------------------------------------------


@on(LINEAR, "rank mini kind", [(4, 0, True), (5, 0, True), (4, 2, "mini"), (2, 0, "bat")])
def test_miss(model, rank, mini, kind):
    config = peft.MissConfig(r=rank, mini_r=mini or 1, init_weights=kind, target_modules=TARGETS[model])
    twin = Twin(
        lively(model), TARGETS[model], lambda b: MiSS(b, rank, mini, kind == "bat"), config, by_name(D="miss_block")
    )
    twin.check("MiSS", model)


def test_miss_with_dropout():
    config = peft.MissConfig(r=4, miss_dropout=0.4, target_modules=TARGETS["llama"])
    twin = Twin(lively("llama"), TARGETS["llama"], lambda b: MiSS(b, 4, dropout=0.4), config, by_name(D="miss_block"))
    twin.check("MiSS", "llama", train_seed=5)


def test_mini_miss_as_wide_as_the_layer_is_miss():
    base = nn.Linear(12, 8)
    wide, plain = MiSS(base, rank=5, mini=8), MiSS(base, rank=5)
    stir([wide.D]), stir([plain.D])
    assert torch.equal(wide(torch.ones(2, 12)), plain(torch.ones(2, 12)))


# PSOFT -----------------------------------------------------------------------------------------------------------


def psoft_pairs(ours, theirs):
    R = theirs.psoft_R["default"]
    pairs = [(ours.Q, R.weight), (ours.alpha, R.vector_a), (ours.beta, R.vector_b)]
    return [(a, b) for a, b in pairs if a is not None]


PSOFT_CASES = [
    (dict(rank=4), dict(r=4, psoft_alpha=4)),
    (dict(rank=6, relaxed=False), dict(r=6, psoft_alpha=11, psoft_mag_a=False, psoft_mag_b=False)),
    (dict(rank=5, terms=5), dict(r=5, use_cayley_neumann=True, num_cayley_neumann_terms=5)),
    (dict(rank=5, symmetric=True), dict(r=5, ab_svd_init="pissa_init")),
]


@on(LINEAR, "mine theirs", PSOFT_CASES)
def test_psoft(model, mine, theirs):
    config = peft.PsoftConfig(target_modules=TARGETS[model], **theirs)
    Twin(lively(model), TARGETS[model], lambda b: PSOFT(b, **mine), config, psoft_pairs).check("PSOFT", model)


def test_psoft_with_dropout():
    config = peft.PsoftConfig(r=4, psoft_dropout=0.4, target_modules=TARGETS["bert"])
    twin = Twin(lively("bert"), TARGETS["bert"], lambda b: PSOFT(b, 4, dropout=0.4), config, psoft_pairs)
    twin.check("PSOFT", "bert", train_seed=5)


def test_psoft_keeps_angles_and_lengths_in_the_principal_subspace():
    """Theorem 4.1: the Gram matrix of W_pri's rows (the paper's columns) stays; with the symmetric split not."""
    base = nn.Linear(24, 16)
    for symmetric in (False, True):
        layer = PSOFT(base, rank=5, relaxed=False, symmetric=symmetric)
        stir([layer.Q])
        before, after = layer.B @ layer.A, layer.B @ (layer.turn() + torch.eye(5)) @ layer.A
        assert torch.allclose(before @ before.T, after @ after.T, atol=1e-5) == (not symmetric)


def test_psoft_fast_svd_finds_the_same_subspace_and_leaves_the_random_state_alone():
    base = nn.Linear(24, 16)
    base.weight.data = torch.randn(16, 4) @ torch.randn(4, 24)
    state = torch.get_rng_state()
    exact, fast = PSOFT(base, rank=4), PSOFT(base, rank=4, niter=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(exact.B @ exact.A, fast.B @ fast.A, atol=1e-3)


# PEANuT ----------------------------------------------------------------------------------------------------------


def peanut_pairs(ours, theirs):
    pairs = [(ours.A, theirs.peanut_A["default"].weight), (ours.B, theirs.peanut_B["default"].weight)]
    pairs += [(E, layer.weight) for E, layer in zip(ours.E, theirs.peanut_encoders["default"], strict=True)]
    return pairs + [(D, layer.weight) for D, layer in zip(ours.D, theirs.peanut_decoders["default"], strict=True)]


@on(LINEAR, "depth scale activation", [(0, 1.0, "relu"), (2, 0.7, "gelu")])
def test_peanut(model, depth, scale, activation):
    config = peft.PeanutConfig(r=4, depth=depth, scaling=scale, act_fn=activation, target_modules=TARGETS[model])
    twin = Twin(lively(model), TARGETS[model], lambda b: PEANuT(b, 4, depth, scale, activation), config, peanut_pairs)
    twin.check("PEANuT", model)


# DEFT ------------------------------------------------------------------------------------------------------------

DEFT_CASES = [
    (dict(rank=3), dict(r=3)),
    (dict(rank=3, projection="qr", alpha=6), dict(r=3, decomposition_method="qr", alpha=6)),
    (dict(rank=2, remove_only=True), dict(r=2, para=True)),
]


def deft_pairs(ours, theirs):
    return by_name(P="deft_P")(ours, theirs) + ([] if ours.remove_only else by_name(R="deft_R")(ours, theirs))


@on(ALL, "mine theirs", DEFT_CASES)
def test_deft(model, mine, theirs):
    config = peft.DeftConfig(target_modules=TARGETS[model], **theirs, **conv1d(model))
    Twin(lively(model), TARGETS[model], lambda b: DEFT(b, **mine), config, deft_pairs).check("DEFT", model)


def test_deft_with_dropout():
    config = peft.DeftConfig(r=3, deft_dropout=0.4, target_modules=TARGETS["bert"])
    twin = Twin(lively("bert"), TARGETS["bert"], lambda b: DEFT(b, 3, dropout=0.4), config, deft_pairs)
    twin.check("DEFT", "bert", train_seed=5)


# FRoD ------------------------------------------------------------------------------------------------------------


def frod_pairs(ours, theirs):
    return by_name(lam="frod_lambda_l", S="frod_lambda_s_values", U="frod_U")(ours, theirs) + [
        (ours.basis.V, theirs.frod_V["default"]),
        (ours.basis.places, theirs.frod_s_indices["default"]),
    ]


def frod_twin(model, sparsity=0.05, **settings):
    targets = TARGETS[model]
    config = peft.FrodConfig(
        target_modules=targets, sparse_rate=sparsity, progressbar=False, **settings, **conv1d(model)
    )
    sites = tuple(rf"(.*\.)?{t}".replace(".dense", r"\.dense") for t in targets)
    mine = dict(sparsity=sparsity, seed=settings.get("projection_prng_key", 0), dropout=settings.get("frod_dropout", 0))
    return Twin(
        lively(model), targets, lambda m: frod.shared(m, sites, **mine), config, frod_pairs, std=0.02, of_model=True
    )


SPARSE = pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # peft's sparse product


@SPARSE
@pytest.mark.parametrize("model", ALL)
def test_frod(model):
    frod_twin(model).check("FRoD", model)


@SPARSE
def test_frod_other_settings():
    frod_twin("llama", sparsity=0.2, projection_prng_key=4).check("FRoD", "llama")
    frod_twin("bert", frod_dropout=0.4).check("FRoD", "bert", train_seed=5)


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_frod_finds_the_basis_and_the_places_that_peft_finds(model):
    """So a file that peft wrote with save_projection=False can be read: U, V, λ₀ and S's places need not be in it."""
    targets, plain = TARGETS[model], host(model)
    config = peft.FrodConfig(target_modules=targets, sparse_rate=0.05, progressbar=False, **conv1d(model))
    theirs = peft.get_peft_model(copy.deepcopy(plain), config)
    sites = tuple(rf"(.*\.)?{t}".replace(".dense", r"\.dense") for t in targets)
    ours = inject(plain, {sites: frod.shared(plain, sites, sparsity=0.05)})
    for name, layer in ours.named_modules():
        if isinstance(layer, frod.FRoD):
            other = theirs.base_model.model.get_submodule(name)
            assert torch.equal(layer.basis.V, other.frod_V["default"])
            assert torch.equal(layer.basis.places, other.frod_s_indices["default"])
            assert (layer.U - other.frod_U["default"]).abs().max() <= 1e-6
            assert torch.allclose(layer.lam, other.frod_lambda_l["default"], rtol=1e-6)


def test_frod_uses_all_layers_of_a_role_and_peft_drops_t5_s_encoder():
    """Both of T5's stacks count from 0; peft files weights by number and role, so the decoder's overwrite."""
    plain = host("t5")
    theirs = peft.get_peft_model(
        copy.deepcopy(plain), peft.FrodConfig(target_modules=["SelfAttention.q"], progressbar=False)
    )
    ours = frod.shared(plain, r".*SelfAttention\.q")(plain.encoder.block[0].layer[0].SelfAttention.q)
    decoder_only = Basis([weight_of(block.layer[0].SelfAttention.q) for block in plain.decoder.block])
    their_V = theirs.base_model.model.encoder.block[0].layer[0].SelfAttention.q.frod_V["default"]
    assert torch.equal(decoder_only.V, their_V)
    assert not torch.allclose(ours.basis.V.abs(), their_V.abs(), atol=1e-2)


def test_frod_saves_its_basis_or_only_what_trains():
    plain = host("bert")
    for keep in (True, False):
        model = copy.deepcopy(plain)
        model = inject(model, {r".*\.query": frod.shared(model, r".*\.query", save_basis=keep)})
        names = {k.rsplit(".", 1)[1] for k in adapter_state(model)}
        assert names == ({"lam", "S", "U", "V", "places"} if keep else {"lam", "S"})


def test_frod_shares_one_basis_which_is_saved_once_and_survives_a_copy():
    model = host("bert")
    model = inject(model, {r".*\.(query|value)": frod.shared(model, r".*\.(query|value)")})
    assert sum(k.endswith("basis.V") for k in adapter_state(model)) == 2  # one for the queries, one for the values
    twin = copy.deepcopy(model)
    layers = [m for m in twin.modules() if isinstance(m, frod.FRoD)]
    assert len({id(m.basis) for m in layers}) == 2 and len(layers) == 4
    assert torch.equal(twin(**batch("bert")).logits, model(**batch("bert")).logits)


def test_frod_two_sets_each_with_its_own_basis():
    plain, x = host("bert"), batch("bert")
    model = inject(copy.deepcopy(plain), {r".*\.query": LoRA}, name="first")
    model = inject(model, {r".*\.query": frod.shared(model, r".*\.query", sparsity=0.1)}, name="second")
    stir(trained(model).values(), std=0.05)
    second = model(**x).logits
    assert not torch.equal(switch(model, "first")(**x).logits, second)
    assert torch.equal(switch(model, "second")(**x).logits, second)
    assert torch.equal(switch(model, None)(**x).logits, plain(**x).logits)


# FourierFT and WaveFT --------------------------------------------------------------------------------------------


@on(ALL, "n alpha seed", [(20, 5.0, 777), (50, 9.0, 3)])
def test_fourierft(model, n, alpha, seed):
    config = peft.FourierFTConfig(
        n_frequency=n, scaling=alpha, random_loc_seed=seed, target_modules=TARGETS[model], **conv1d(model)
    )
    twin = Twin(
        lively(model), TARGETS[model], lambda b: FourierFT(b, n, alpha, seed), config, by_name(c="fourierft_spectrum")
    )
    twin.check("FourierFT", model)


@on(ALL, "n alpha order", [(40, 2.0, 1), (90, 1.0, 2), (90, 1.0, 5)])
def test_waveft(model, n, alpha, order):
    config = peft.WaveFTConfig(
        n_frequency=n, scaling=alpha, wavelet_family=f"db{order}", target_modules=TARGETS[model], **conv1d(model)
    )
    twin = Twin(
        lively(model), TARGETS[model], lambda b: WaveFT(b, n, alpha, order), config, by_name(c="waveft_spectrum")
    )
    twin.check("WaveFT", model)


def test_waveft_without_a_wavelet():
    config = peft.WaveFTConfig(n_frequency=40, scaling=1.0, use_idwt=False, target_modules=TARGETS["bert"])
    twin = Twin(lively("bert"), TARGETS["bert"], lambda b: WaveFT(b, 40, 1.0, 0), config, by_name(c="waveft_spectrum"))
    twin.check("WaveFT", "bert")


@pytest.mark.parametrize("order", range(1, 11))
def test_daubechies_filters_are_those_of_the_tables(order):
    from peft.tuners.waveft.wavelet import Wavelet

    h = daubechies(order)
    assert torch.allclose(h, torch.tensor(Wavelet(f"db{order}").rec_lo, dtype=h.dtype), atol=1e-6)
    assert abs(h.square().sum() - 1) < 1e-9  # orthonormal
    k = torch.arange(len(h), dtype=h.dtype)
    sign = (-1.0) ** k
    for moment in range(min(order, 4)):  # details of a polynomial vanish
        assert abs((sign * h * (k / len(h)) ** moment).sum()) < 1e-6


def test_one_haar_coefficient_touches_four_entries_and_one_of_fourier_s_all():
    for layer, touched in ((WaveFT(nn.Linear(12, 8), n=1), 4), (FourierFT(nn.Linear(11, 7), n=1), 77)):
        nn.init.ones_(layer.c)
        assert (layer.change().abs() > 1e-6).sum() == touched


# C3A -------------------------------------------------------------------------------------------------------------


def c3a(model, targets, block):
    config = peft.C3AConfig(block_size=block, target_modules=targets)
    return Twin(lively(model), targets, lambda b: C3A(b, block, divide=True), config, by_name(w="c3a_kernel"), std=3)


@on(LINEAR, "block", [(2,)])
def test_c3a_forward(model, block):
    found = c3a(model, TARGETS[model], block).difference(batch(model))
    assert found["forward"] <= 1e-5 and found["effect"] >= 1e-2


@pytest.mark.parametrize(
    ("model", "site", "block"),
    [
        ("bert", "encoder.layer.1.output.dense", 8),
        ("llama", "layers.1.mlp.down_proj", 4),
        ("t5", "decoder.block.1.layer.2.DenseReluDense.wo", 8),
    ],
)
def test_c3a_gradients_where_no_gradient_has_to_pass_through_it(model, site, block):
    c3a(model, [site], block).check("C3A", model)


def test_c3a_passes_the_transpose_s_gradient_to_its_input_and_peft_does_not():
    from peft.tuners.c3a.utils import BlockCircularConvolution

    layer = C3A(nn.Linear(12, 8, dtype=torch.float64), block=4)
    stir([layer.w])
    x, g = torch.randn(3, 12, dtype=torch.float64, requires_grad=True), torch.randn(3, 8, dtype=torch.float64)
    mine = torch.autograd.grad(layer(x) - layer.base(x), x, g)[0]
    theirs = torch.autograd.grad(BlockCircularConvolution.apply(x, layer.w), x, g)[0]
    assert (mine - g @ layer.change()).abs().max() < 1e-14
    assert (theirs - mine).abs().max() > 0.1


def test_c3a_can_have_full_rank_from_b_numbers():
    layer = C3A(nn.Linear(16, 16), block=16, start="gaussian")
    assert layer.w.numel() == 16 and torch.linalg.matrix_rank(layer.change()) == 16
    assert torch.equal(layer.change()[0], layer.w.flatten()) and torch.equal(
        layer.change()[1], layer.w.flatten().roll(1)
    )


# Where the layer starts, other kinds of use, errors -------------------------------------------------------------------


def test_peft_also_starts_fourierft_and_c3a_changed():
    for config in (peft.FourierFTConfig(n_frequency=20), peft.C3AConfig(block_size=2)):
        config.target_modules = {"query"}
        model, x = lively("bert"), batch("bert")
        before = model(**x).logits
        assert (peft.get_peft_model(model, config).eval()(**x).logits - before).abs().max() > 1e-4


METHODS = {
    "c3a": lambda b: C3A(b, 8),
    "deft": DEFT,
    "delora": DeLoRA,
    "fourierft": lambda b: FourierFT(b, 9),
    "frod": lambda b: frod.FRoD(b, Basis([weight_of(b)])),
    "glora": GLoRA,
    "gralora": lambda b: GraLoRA(b, 4),
    "hira": HiRA,
    "miss": lambda b: MiSS(b, 8),
    "peanut": PEANuT,
    "psoft": lambda b: PSOFT(b, 4),
    "waveft": lambda b: WaveFT(b, 9, order=2),
}


@pytest.mark.parametrize("method", METHODS)
def test_counts_need_no_memory(method):
    """Made on the meta device, each has tensors there only, and the count of the real one."""
    real = METHODS[method](nn.Linear(24, 16))
    with torch.device("meta"):
        sketch = METHODS[method](nn.Linear(24, 16))
    assert all(t.is_meta for t in sketch.own_state().values())
    assert {k: t.shape for k, t in sketch.own_state().items()} == {k: t.shape for k, t in real.own_state().items()}


@pytest.mark.parametrize("factory", [lambda b: GraLoRA(b, 4, blocks=2), lambda b: MiSS(b, 4), lambda b: C3A(b, 4)])
def test_conv1d_where_peft_has_none_or_ours_is_written_for_features(factory):
    model = inject(host("gpt2"), {r".*\.c_attn": factory})
    stir(trained(model).values())
    x = batch("gpt2")
    assert (merge(model)(**x).logits - model(**x).logits).abs().max() <= 1e-5


ERRORS = {
    "rank must be at least 1": lambda b: DeLoRA(b, rank=0),
    "strength above 0": lambda b: DeLoRA(b, strength=0),
    "start must be 'random'": lambda b: DeLoRA(b, start="ones"),
    r"blocks=5 .* \[1, 2, 4\] do": lambda b: GraLoRA(b, rank=4, blocks=5),
    "hybrid 0 or more": lambda b: GraLoRA(b, rank=4, hybrid=-1),
    "AB must be one of": lambda b: GLoRA(b, AB="full"),
    "C must be one of": lambda b: GLoRA(b, C="constant"),
    "DE must be one of": lambda b: GLoRA(b, DE="lora"),
    "nothing would train": lambda b: GLoRA(b, AB="none", C="none", DE="none"),
    "at least 1, not 0": lambda b: GLoRA(b, rank=0),
    "at least 1, not -1": lambda b: HiRA(b, rank=-1),
    "from 1 to d_in = 12": lambda b: MiSS(b, rank=13),
    r"mini=3 must divide d_out = 8 \(\[1, 2, 4, 8\] do\)": lambda b: MiSS(b, rank=4, mini=3),
    r"bat needs .* not 3: \[1, 2, 4\] do": lambda b: MiSS(b, rank=3, bat=True),
    "leave dropout at 0": lambda b: MiSS(b, rank=4, bat=True, dropout=0.1),
    "rank must be from 1 to 8 and terms": lambda b: PSOFT(b, rank=9),
    "depth 0 or more": lambda b: PEANuT(b, depth=-1),
    "have no .square_wave.": lambda b: PEANuT(b, activation="square_wave"),
    "from 1 to d_out = 8": lambda b: DEFT(b, rank=9),
    "projection must be": lambda b: DEFT(b, projection="svd"),
    "sparsity must be": lambda b: Basis([weight_of(b)], sparsity=0.0),
    "not in the basis": lambda b: frod.FRoD(b, Basis([torch.eye(12)[:1].repeat(12, 1)])),
    "from 1 to d_out \\* d_in = 96": lambda b: FourierFT(b, n=97),
    "start must be 'normal'": lambda b: FourierFT(b, n=9, start="one"),
    "n must be from 1": lambda b: WaveFT(b, n=0),
    "order must be from 0": lambda b: WaveFT(b, n=9, order=11),
    r"block=8 must divide .*: \[1, 2, 4\] do": lambda b: C3A(b, block=8),
    "start must be one of": lambda b: C3A(b, block=4, start="one"),
}


@pytest.mark.parametrize("words", ERRORS)
def test_a_bad_setting_is_told_with_what_would_fit(words):
    with pytest.raises(ValueError, match=words):
        ERRORS[words](nn.Linear(12, 8))


@pytest.mark.parametrize("method", [GraLoRA, GLoRA, MiSS, C3A, lambda b: frod.FRoD(b, Basis([torch.randn(12, 8)]))])
def test_a_layer_of_another_kind_is_told(method):
    with pytest.raises(ValueError, match="Embedding is neither"):
        method(nn.Embedding(12, 8))


def test_frod_needs_the_sites_it_was_made_for():
    model = host("bert")
    with pytest.raises(ValueError, match="a layer outside the basis"):
        inject(model, {r".*\.key": frod.shared(model, r".*\.query")})
