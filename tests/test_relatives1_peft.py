"""LoRA's relatives equal Hugging Face peft 0.21.2: forward and gradients, on our numbers in its tensors.

What peft draws from a seed is not copied but must come out the same: a file without it loads.
"""

import sys
from types import ModuleType

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft, suffixes
from torch import nn

from peft_from_scratch import inject, trained
from peft_from_scratch.methods.lowrank import (
    adalora,
    adamss,
    krona,
    loha,
    lokr,
    pvera,
    randlora,
    tinylora,
    unilora,
    vblora,
    vera,
)

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "gpt2": ["c_attn", "c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
LINEAR = {name: targets for name, targets in TARGETS.items() if name != "gpt2"}  # peft's LoHa, LoKr, AdaMSS: no Conv1D
hosts = pytest.mark.parametrize("name", TARGETS)
linear_hosts = pytest.mark.parametrize("name", LINEAR)


def named(*pairs):
    """Their tensors beside ours: (ours, theirs) attribute names; ours may be dotted. What neither has is left out."""

    def match(ours, theirs):
        found = []
        for mine, other in pairs:
            t = ours
            for part in mine.split("."):
                t = getattr(t, part, None)
            if t is not None:
                found.append((t, getattr(theirs, other)["default"]))
        return found

    return match


ADALORA = named(("P", "lora_B"), ("Lambda", "lora_E"), ("Q", "lora_A"))
LOHA = named(("B1", "hada_w1_a"), ("A1", "hada_w1_b"), ("B2", "hada_w2_a"), ("A2", "hada_w2_b"))
VERA = named(("lambda_b", "vera_lambda_b"), ("lambda_d", "vera_lambda_d"))
PVERA = named(("lambda_b", "pvera_lambda_b"), ("lambda_d", "pvera_lambda_d"))
RANDLORA = named(("Lambda", "randlora_lambda"), ("Gamma", "randlora_gamma"))
UNILORA = named(("vector.theta", "unilora_theta_d"))
VBLORA = named(("logits_A", "vblora_logits_A"), ("logits_B", "vblora_logits_B"), ("bank.vectors", "vblora_vector_bank"))


def lokr_pairs(ours, theirs):
    """Whole factors are called w1 and w2 there, split ones w1_a, w1_b, ..."""
    for mine, other in ("W1", "lokr_w1"), ("W2", "lokr_w2"):
        b, a = getattr(ours, mine + "b"), getattr(ours, mine + "a")
        if a is None:
            yield b, getattr(theirs, other)["default"]
        else:
            yield b, getattr(theirs, other + "_a")["default"]
            yield a, getattr(theirs, other + "_b")["default"]


LOKR = lambda ours, theirs: list(lokr_pairs(ours, theirs))  # noqa: E731


FORCE = {"bert": 2, "gpt2": 1, "llama": 1, "t5": 0.4}  # how far our numbers are moved


def twin_of(name, targets, factory, config, match, std=0.2, **kw):
    model = host(name)
    if name == "bert":
        model.classifier.weight.data *= 20  # or its answers hardly depend on anything
    return Twin(model, targets, factory, config, match, std=std * FORCE[name], **kw)


def wide(name):
    """Whether peft must be told that the weights are stored as (d_in, d_out)."""
    return {"fan_in_fan_out": name == "gpt2"}


def conv(**kw):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, (3, 2), **kw), nn.Flatten())


IMAGE = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(7))
convolutions = pytest.mark.parametrize("kw", [{}, dict(stride=2, padding=1, dilation=2), dict(groups=2)])


@hosts
@pytest.mark.parametrize("train_seed", [None, 5])
def test_adalora(name, train_seed):
    config = peft.AdaLoraConfig(
        init_r=5,
        lora_alpha=30,
        lora_dropout=0.3,
        orth_reg_weight=0,
        total_step=9,
        target_modules=TARGETS[name],
        **wide(name),
    )
    factory = lambda b: adalora.AdaLoRA(b, 5, 30, dropout=0.3)  # noqa: E731
    twin_of(name, TARGETS[name], factory, config, ADALORA).check("AdaLoRA", name, 1e-6, train_seed)


def test_peft_has_no_adalora_for_grouped_convolutions_and_we_do():
    """Its right factor is as wide as all input channels, the kernel only as those of a group."""
    config = peft.AdaLoraConfig(init_r=3, total_step=9, target_modules=["0"])
    with pytest.raises(RuntimeError):
        peft.get_peft_model(conv(groups=2), config)(IMAGE)
    inject(conv(groups=2), {"0": adalora.AdaLoRA})(IMAGE)


@pytest.mark.parametrize("kw", [{}, dict(stride=2, padding=1, dilation=2)])
def test_adalora_convolution(kw):
    config = peft.AdaLoraConfig(init_r=3, lora_alpha=5, total_step=9, target_modules=["0"])
    twin = Twin(conv(**kw), ["0"], lambda b: adalora.AdaLoRA(b, 3, 5), config, ADALORA)
    twin.check("AdaLoRA", IMAGE, 1e-6)


@linear_hosts
@pytest.mark.parametrize("rank", [2, 7])
def test_loha(name, rank):
    """By the r² factors where they cost less, by the whole product else."""
    config = peft.LoHaConfig(r=rank, alpha=5, target_modules=TARGETS[name])
    twin = twin_of(name, TARGETS[name], lambda b: loha.LoHa(b, rank, 5), config, LOHA, std=0.5)
    assert all(a.cheap == (rank == 2) for a in twin.ours.modules() if isinstance(a, loha.LoHa))
    twin.check("LoHa", name, 5e-6)


@pytest.mark.parametrize("rank", [2, 7])
def test_loha_dropouts(rank):
    config = peft.LoHaConfig(r=rank, alpha=9, rank_dropout=0.4, module_dropout=0.3, target_modules=LINEAR["bert"])
    factory = lambda b: loha.LoHa(b, rank, 9, rank_dropout=0.4, module_dropout=0.3)  # noqa: E731
    twin_of("bert", LINEAR["bert"], factory, config, LOHA, std=0.5).check("LoHa", "bert", 5e-6, train_seed=5)


@convolutions
def test_loha_convolution(kw):
    config = peft.LoHaConfig(r=2, alpha=5, target_modules=["0"])
    Twin(conv(**kw), ["0"], lambda b: loha.LoHa(b, 2, 5), config, LOHA, std=0.5).check("LoHa", IMAGE, 1e-6)


LOKRS = {
    "default": (dict(rank=2), dict(r=2)),
    "factor 4": (dict(rank=1, factor=4), dict(r=1, decompose_factor=4)),
    "a factor that does not divide": (dict(rank=1, factor=5), dict(r=1, decompose_factor=5)),
    "both split": (dict(rank=1, factor=8, decompose_both=True), dict(r=1, decompose_factor=8, decompose_both=True)),
    "both whole": (dict(rank=30), dict(r=30)),
    "zero in W2": (dict(rank=2, zero="W2"), dict(r=2, init_weights="lycoris")),
}


@linear_hosts
@pytest.mark.parametrize("kind", LOKRS)
def test_lokr(name, kind):
    ours, theirs = LOKRS[kind]
    config = peft.LoKrConfig(alpha=5, target_modules=TARGETS[name], **theirs)
    twin = twin_of(name, TARGETS[name], lambda b: lokr.LoKr(b, alpha=5, **ours), config, LOKR, std=0.3)
    twin.check("LoKr", name, 1e-5)


@pytest.mark.parametrize("rescale", [False, True])
def test_lokr_dropouts(rescale):
    config = peft.LoKrConfig(
        r=2, alpha=9, rank_dropout=0.4, rank_dropout_scale=rescale, module_dropout=0.3, target_modules=LINEAR["bert"]
    )
    factory = lambda b: lokr.LoKr(b, 2, 9, rank_dropout=0.4, rescale=rescale, module_dropout=0.3)  # noqa: E731
    twin_of("bert", LINEAR["bert"], factory, config, LOKR, std=0.5).check("LoKr", "bert", 1e-6, train_seed=5)


def compare_convolution(ours, theirs, names, turned=()):
    """Output and gradients, where peft's tensors have another shape; those of `turned` are stored transposed there."""
    stir(trained(ours).values(), std=0.5)
    layer = theirs.base_model.model[0]
    pairs = {}
    for mine, other in names.items():
        t, other = getattr(ours[0], mine), getattr(layer, other)["default"]
        other.data.copy_(t.detach().T if mine in turned else t.detach().reshape(other.shape))
        pairs[mine] = t, other
    assert (ours(IMAGE) - theirs(IMAGE)).abs().max() <= 2e-6
    ours(IMAGE).square().mean().backward(), theirs(IMAGE).square().mean().backward()
    return {
        mine: (t.grad - (other.grad.T if mine in turned else other.grad.reshape(t.shape))).abs().max().item()
        for mine, (t, other) in pairs.items()
    }


@convolutions
@pytest.mark.parametrize("rank", [1, 9])
def test_lokr_convolution(kw, rank):
    ours = inject(conv(**kw), {"0": lambda b: lokr.LoKr(b, rank, 5)})
    theirs = peft.get_peft_model(conv(**kw), peft.LoKrConfig(r=rank, alpha=5, target_modules=["0"]))
    whole = dict(W1b="lokr_w1", W2b="lokr_w2")
    split = dict(W1b="lokr_w1", W2b="lokr_w2_a", W2a="lokr_w2_b")
    found = compare_convolution(ours, theirs, whole if rank == 9 else split)
    assert max(found.values()) <= 1e-6, found


@convolutions
def test_lokr_convolution_with_kernels_between(kw):
    ours = inject(conv(**kw), {"0": lambda b: lokr.LoKr(b, 1, 5, tucker=True)})
    config = peft.LoKrConfig(r=1, alpha=5, use_effective_conv2d=True, target_modules=["0"])
    names = dict(W1b="lokr_w1", W2b="lokr_w2_a", W2a="lokr_w2_b", T="lokr_t2")
    found = compare_convolution(ours, peft.get_peft_model(conv(**kw), config), names, turned=("W2b",))
    assert max(found.values()) <= 1e-6, found


@convolutions
def test_loha_convolution_with_kernels_between_and_a_wrong_gradient_in_peft(kw):
    """peft's hand-written backward takes the other product's kernel for the gradients of w1_a and w2_a; autograd of its
    own forward agrees with ours."""
    ours = inject(conv(**kw), {"0": lambda b: loha.LoHa(b, 2, 5, tucker=True)})
    config = peft.LoHaConfig(r=2, alpha=5, use_effective_conv2d=True, target_modules=["0"])
    names = dict(B1="hada_w1_a", A1="hada_w1_b", T1="hada_t1", B2="hada_w2_a", A2="hada_w2_b", T2="hada_t2")
    theirs = peft.get_peft_model(conv(**kw), config)
    found = compare_convolution(ours, theirs, names, turned=("B1", "B2"))
    assert max(found[k] for k in ("A1", "T1", "A2", "T2")) <= 1e-6, found
    assert min(found["B1"], found["B2"]) > 1e-2, found
    layer = theirs.base_model.model[0]
    t1, a1, b1, t2, a2, b2 = (
        getattr(layer, f"hada_{n}")["default"] for n in ("t1", "w1_a", "w1_b", "t2", "w2_a", "w2_b")
    )
    W = 2.5 * torch.einsum("ijkl,jr,ip->prkl", t1, b1, a1) * torch.einsum("ijkl,jr,ip->prkl", t2, b2, a2)
    y = layer.base_layer(IMAGE) + layer.base_layer._conv_forward(IMAGE, W, None)
    right = torch.autograd.grad(y.square().mean(), [a1, a2])
    assert (right[0].T - ours[0].B1.grad).abs().max() <= 1e-6 and (right[1].T - ours[0].B2.grad).abs().max() <= 1e-6


@linear_hosts
def test_krona_is_lokr_with_whole_factors(name):
    config = peft.LoKrConfig(r=30, alpha=45, target_modules=TARGETS[name])
    match = named(("A", "lokr_w1"), ("B", "lokr_w2"))
    twin_of(name, TARGETS[name], lambda b: krona.KronA(b, scale=1.5), config, match, std=0.3).check("KronA", name, 5e-6)


def shared(page, **settings):
    return lambda targets: lambda model: page.shared(model, suffixes(targets), **settings)


@hosts
@pytest.mark.parametrize("train_seed", [None, 5])
def test_vera(name, train_seed):
    config = peft.VeraConfig(
        r=6, projection_prng_key=3, d_initial=0.2, vera_dropout=0.3, target_modules=TARGETS[name], **wide(name)
    )
    make = shared(vera, rank=6, seed=3, d_initial=0.2, dropout=0.3)(TARGETS[name])
    twin_of(name, TARGETS[name], make, config, VERA, of_model=True).check("VeRA", name, 2e-6, train_seed)


@hosts
@pytest.mark.parametrize("train_seed", [None, 5])
def test_pvera(name, train_seed):
    """In training mode the noise is the same: drawn in the same order."""
    config = peft.PveraConfig(r=6, projection_prng_key=3, target_modules=TARGETS[name], **wide(name))
    make = shared(pvera, rank=6, seed=3)(TARGETS[name])
    twin_of(name, TARGETS[name], make, config, PVERA, of_model=True).check("PVeRA", name, 5e-6, train_seed)


def test_pvera_that_samples_at_inference():
    config = peft.PveraConfig(r=6, projection_prng_key=3, sample_at_inference=True, target_modules=TARGETS["bert"])
    make = shared(pvera, rank=6, seed=3, sample_at_inference=True)(TARGETS["bert"])
    twin = twin_of("bert", TARGETS["bert"], make, config, PVERA, of_model=True)
    outs = []
    for model in (twin.ours, twin.theirs):
        torch.manual_seed(8)
        outs += [model(**batch("bert")).logits, model(**batch("bert")).logits]
    assert (outs[0] - outs[2]).abs().max() <= 2e-6 and (outs[1] - outs[3]).abs().max() <= 2e-6
    assert (outs[0] - outs[1]).abs().max() > 1e-3, "two passes must differ"


RANDLORAS = {
    "default": (dict(dtype=torch.bfloat16), {}),
    "sparse": (dict(sparsity=3.0), dict(sparse=True)),
    "very sparse": (dict(), dict(very_sparse=True)),
}


@hosts
@pytest.mark.parametrize("kind", RANDLORAS)
def test_randlora(name, kind):
    mine, other = RANDLORAS[kind]
    if kind == "very sparse":  # √ of the smaller of the two largest sizes
        mine = dict(sparsity={"bert": 24, "gpt2": 72, "llama": 32, "t5": 40}[name] ** 0.5)
    config = peft.RandLoraConfig(
        r=5, randlora_alpha=2, projection_prng_key=3, target_modules=TARGETS[name], **wide(name), **other
    )
    make = shared(randlora, rank=5, alpha=2, seed=3, peft_order=True, **mine)(TARGETS[name])
    twin_of(name, TARGETS[name], make, config, RANDLORA, of_model=True).check("RandLoRA", name, 1e-5)


@hosts
def test_vblora(name):
    config = peft.VBLoRAConfig(r=3, num_vectors=7, vector_length=2, topk=3, target_modules=TARGETS[name], **wide(name))
    make = shared(vblora, rank=3, vectors=7, length=2, top_k=3)(TARGETS[name])
    twin_of(name, TARGETS[name], make, config, VBLORA, of_model=True).check("VB-LoRA", name, 1e-6)


@hosts
def test_unilora(name):
    config = peft.UniLoraConfig(r=3, theta_d_length=37, proj_seed=9, target_modules=TARGETS[name], **wide(name))
    make = shared(unilora, rank=3, length=37, seed=9)(TARGETS[name])
    twin = twin_of(name, TARGETS[name], make, config, UNILORA, std=2, of_model=True)
    twin.check("Uni-LoRA", name, 1e-5)


def tinylora_pairs(ours, theirs):
    """Singular vectors are copied (signs); the random P are not. In an embedding their A is our Bᵀ."""
    A, B = theirs.tinylora_A["default"], theirs.tinylora_B["default"]
    A, B = (B.T, A.T) if isinstance(ours.base, nn.Embedding) else (A, B)
    return [(ours.vector.v, theirs.tinylora_v["default"][theirs._tinylora_v_key["default"]]), (ours.A, A), (ours.B, B)]


@hosts
@pytest.mark.parametrize("tie", [0.0, 0.5, 1.0])
def test_tinylora(name, tie):
    tokens = {"bert": "word_embeddings", "gpt2": "wte", "llama": "embed_tokens", "t5": "q"}[name]
    targets = TARGETS[name] + [tokens]
    config = peft.TinyLoraConfig(r=3, u=4, weight_tying=tie, projection_seed=9, target_modules=targets, **wide(name))
    make = shared(tinylora, rank=3, numbers=4, tie=tie, seed=9, split=True)(targets)
    twin = twin_of(name, targets, make, config, tinylora_pairs, of_model=True, std=2)
    twin.check("TinyLoRA", name, 1e-5)
    assert len(trained(twin.ours)) == len(twin.theirs.base_model.tinylora_v["default"])


def thirds(n):
    return torch.arange(n) * 7 % 3


def adamss_pairs(ours, theirs):
    A, B = theirs.adamss_A["default"], theirs.adamss_B["default"]
    return [(ours.V, theirs.adamss_newB["default"]), *zip(ours.A, A, strict=True), *zip(ours.B, B, strict=True)]


@linear_hosts
@pytest.mark.parametrize("rank", [1, 4])
def test_adamss_with_given_clusters(name, rank, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))  # asked for by the config, used for k-means only
    monkeypatch.setattr("peft.tuners.adamss.layer.clustering_Z", lambda U, *_: (thirds(len(U)), 3))
    config = peft.AdamssConfig(r=9, num_subspaces=3, subspace_rank=rank, target_modules=TARGETS[name])
    factory = lambda b: adamss.AdaMSS(b, 9, 3, rank, clusters=thirds(b.out_features))  # noqa: E731
    twin_of(name, TARGETS[name], factory, config, adamss_pairs).check("AdaMSS", name, 2e-6)
