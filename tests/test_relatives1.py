"""LoRA's relatives: counts on real models, what they share, the properties their papers claim, wrong arguments."""

import copy

import pytest
import torch
from hosts import batch, host, stir
from torch import nn

from peft_from_scratch import (
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
from peft_from_scratch.methods import maths
from peft_from_scratch.methods.lowrank import pvera, randlora, said, tinylora, unilora, vblora, vera
from peft_from_scratch.methods.lowrank.adalora import AdaLoRA
from peft_from_scratch.methods.lowrank.adamss import AdaMSS
from peft_from_scratch.methods.lowrank.krona import KronA
from peft_from_scratch.methods.lowrank.loha import LoHa
from peft_from_scratch.methods.lowrank.lokr import LoKr
from peft_from_scratch.methods.lowrank.loraxs import LoRAXS

SITES = r".*\.(query|value|intermediate\.dense)"
SHARED = {
    "VeRA": (vera, dict(rank=5)),
    "VeRA, saved": (vera, dict(rank=5, saved=True)),
    "PVeRA": (pvera, dict(rank=5)),
    "RandLoRA": (randlora, dict(rank=7, alpha=2)),
    "VB-LoRA": (vblora, dict(vectors=9, length=8)),
    "Uni-LoRA": (unilora, dict(length=40)),
    "TinyLoRA": (tinylora, dict(tie=0.6)),
    "SAID": (said, dict(numbers=30)),
}
sharing = pytest.mark.parametrize("method", SHARED)


# What is shared ------------------------------------------------------------------------------------------------------


def made(method, seed=0):
    page, settings = SHARED[method]
    model = host("bert", seed)
    torch.manual_seed(3)
    model = inject(model, {SITES: page.shared(model, SITES, **settings)})
    stir(trained(model).values())
    return model.eval()


@sharing
def test_each_shared_tensor_is_listed_once(method):
    model = made(method)
    state, live = adapter_state(model), trained(model)
    assert len({id(p) for p in live.values()}) == len(live)
    words = ("projection", "bases", "bank", "vector")
    groups = 2 if method == "TinyLoRA" else 1
    tensors = sum(any(f".{word}." in key for word in words) for key in state)
    assert tensors == {"VeRA": 0, "PVeRA": 0, "RandLoRA": 0, "VeRA, saved": 2}.get(method, groups)


@sharing
def test_a_deep_copy_shares_among_its_own(method):
    model = made(method)
    twin = copy.deepcopy(model)
    assert len(trained(twin)) == len(trained(model))
    y = model(**batch("bert")).logits
    stir(trained(twin).values(), seed=9)
    assert torch.equal(model(**batch("bert")).logits, y)
    assert not torch.equal(twin(**batch("bert")).logits, y)


@sharing
def test_saved_loaded_merged_removed(method, tmp_path):
    model, base = made(method), host("bert")
    y = model(**batch("bert")).logits
    again = host("bert")
    page, settings = SHARED[method]
    again = inject(again, {SITES: page.shared(again, SITES, **settings)}).eval()
    load_adapter(again, save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(**batch("bert")).logits, y)
    assert (merge(model)(**batch("bert")).logits - y).abs().max() <= 1e-5
    assert torch.equal(remove(model)(**batch("bert")).logits, base(**batch("bert")).logits)


@sharing
def test_two_sets_on_one_model(method):
    """The second set has its own shared tensors, made on the model that is already adapted."""
    page, settings = SHARED[method]
    model = made(method)
    y = model(**batch("bert")).logits
    first = len(trained(model))
    model = inject(model, {SITES: page.shared(model, SITES, **settings)}, name="second").eval()
    assert len(trained(model)) == first
    stir(trained(model).values(), seed=8)
    other = model(**batch("bert")).logits
    assert not torch.equal(other, y)
    assert torch.equal(switch(model, "default")(**batch("bert")).logits, y) and len(trained(model)) == first
    assert torch.equal(switch(model, "second")(**batch("bert")).logits, other) and len(trained(model)) == first


@pytest.mark.parametrize("method", ["VeRA", "PVeRA", "RandLoRA", "Uni-LoRA", "TinyLoRA", "SAID"])
def test_other_sites_than_those_of_the_shared_tensors(method):
    page, settings = SHARED[method]
    model = host("bert")
    factory = page.shared(model, r".*\.query", **settings)
    with pytest.raises(ValueError, match="same model and sites"):
        inject(model, {r".*\.intermediate\.dense": factory})


def test_a_file_of_another_seed_is_refused(tmp_path):
    path = save_adapter(made("VeRA"), tmp_path / "a.safetensors")
    model = host("bert")
    model = inject(model, {SITES: vera.shared(model, SITES, rank=5, seed=1)})
    with pytest.raises(ValueError, match="seed=0"):
        load_adapter(model, path)


# Properties ----------------------------------------------------------------------------------------------------------


def test_loha_reaches_rank_r_squared():
    torch.manual_seed(0)
    layer = LoHa(nn.Linear(40, 30, dtype=torch.float64), rank=3)
    stir(trained(layer).values(), std=1)
    assert torch.linalg.matrix_rank(layer.change()) == 9


def test_randlora_is_the_papers_sum_and_of_full_rank():
    base = nn.Linear(12, 20)
    layer = randlora.shared(base, "", rank=5, alpha=10)(base)
    stir(trained(layer).values(), std=1)
    A, B = layer.bases.A, layer.bases.B
    naive = sum(B[:, j] @ layer.Lambda[:, j].diag() @ A @ layer.Gamma[j].diag() for j in range(3))
    assert (weight_of(layer.merged()) - base.weight - 2 * naive).abs().max() <= 1e-5
    assert torch.linalg.matrix_rank(naive) == 12
    other = randlora.shared(base, "", rank=5, alpha=10, peft_order=True)(base)
    load_adapter(other, adapter_state(layer))
    assert (weight_of(other.merged()) - weight_of(layer.merged())).abs().max() > 1, "peft pairs other rows and columns"


def test_randlora_transposes_where_outputs_are_fewer():
    base = nn.Linear(20, 12)
    layer = randlora.shared(base, "", rank=5, alpha=5)(base)
    stir(trained(layer).values(), std=1)
    A, B = layer.bases.A, layer.bases.B
    naive = sum(layer.Gamma[j].diag() @ A.T @ layer.Lambda[:, j].diag() @ B[:, j].T for j in range(3))
    assert (weight_of(layer.merged()) - base.weight - naive).abs().max() <= 1e-5


def test_unilora_keeps_distances():
    """‖θ_D‖ = ‖θ_d‖ over all A and B of the model."""
    model = made("Uni-LoRA")
    layers = [a for _, a in adapters(model)]
    norm = sum(t.square().sum() for a in layers for t in a.factors()).sqrt()
    assert abs(norm - layers[0].vector.theta.norm()) <= 1e-5


def test_tinylora_with_unit_matrices_is_loraxs():
    base = nn.Linear(12, 9)
    xs = LoRAXS(base, 3)
    stir([xs.R], std=1)
    vector = tinylora.Vector(base, 9)
    tiny = tinylora.TinyLoRA(base, vector, torch.eye(9).view(9, 3, 3))
    vector.v.data = xs.R.detach().flatten()
    x = torch.randn(4, 12)
    assert torch.equal(tiny(x), xs(x))
    tiny(x).square().sum().backward(), xs(x).square().sum().backward()
    assert torch.allclose(vector.v.grad, xs.R.grad.flatten(), rtol=1e-6)


def test_tinylora_of_the_paper_and_of_peft():
    """W + U Σ R Vᵀ in the paper, W + U Σ^½ R Σ^½ Vᵀ in peft: the same family, other coordinates."""
    base = nn.Linear(12, 9)
    P = torch.randn(5, 3, 3)
    paper, peft = (tinylora.TinyLoRA(base, tinylora.Vector(base, 5), P, split) for split in (False, True))
    U, S, Vt = torch.linalg.svd(base.weight, full_matrices=False)
    assert torch.allclose(paper.B @ paper.A, (U[:, :3] * S[:3]) @ Vt[:3], atol=1e-6)
    assert torch.allclose(peft.B @ peft.A, (U[:, :3] * S[:3]) @ Vt[:3], atol=1e-6)
    assert torch.allclose(peft.B.norm(dim=0), peft.A.norm(dim=1)) and torch.allclose(paper.A.norm(dim=1), torch.ones(3))


def test_walsh_hadamard_is_the_matrix():
    H = torch.ones(1, 1)
    for _ in range(4):
        H = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), H)
    x = torch.randn(3, 16)
    assert torch.allclose(maths.walsh_hadamard(x), x @ H.T, atol=1e-5)
    assert torch.equal(H @ H.T, 16 * torch.eye(16))
    with pytest.raises(ValueError, match="power of two, not 12"):
        maths.walsh_hadamard(torch.ones(12))


def test_said_is_linear_in_z_and_keeps_lengths_on_average():
    """Two properties of the paper's P: W0 + λ P z is linear in z; ‖P z‖ is near ‖z‖, and unrelated z stay so."""
    base = nn.Linear(40, 30)
    norms, products = [], []
    for seed in range(20):
        layer = said.shared(base, "", numbers=200, seed=seed)(base)
        z = torch.randn(2, 200)
        images = []
        for row in (z[0], z[1], z[0] + 2 * z[1]):
            layer.vector.z.data = row
            images.append(layer.change().detach().flatten())
        assert (images[2] - images[0] - 2 * images[1]).abs().max() <= 1e-5
        norms.append((images[0].norm() / z[0].norm()).item())
        products.append(
            (
                images[0] @ images[1] / (images[0].norm() * images[1].norm())
                - z[0] @ z[1] / (z[0].norm() * z[1].norm())
            ).item()
        )
    assert abs(sum(norms) / 20 - 1) < 0.02 and max(abs(n - 1) for n in norms) < 0.2
    assert abs(sum(products) / 20) < 0.02


def test_said_is_fastfoods_product_of_matrices():
    base = nn.Linear(4, 3)
    layer = said.shared(base, "", numbers=5, layer_scales=False)(base)
    stir([layer.vector.z])
    H = torch.ones(1, 1)
    for _ in range(4):
        H = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), H)
    P = H @ layer.G.diag() @ torch.eye(16)[layer.order] @ H @ layer.signs.diag() / (layer.G.norm() * 12**0.5)
    assert torch.allclose(layer.change().flatten(), P[:12, :5] @ layer.vector.z, atol=1e-6)


def test_kronecker_without_the_product():
    A, B, x = torch.randn(3, 4), torch.randn(5, 2), torch.randn(6, 7, 8)
    assert torch.allclose(maths.kronecker_times(A, B, x), x @ torch.kron(A, B).T, atol=1e-5)


@pytest.mark.parametrize(
    ("d", "factor", "pair"),
    [
        (256, -1, (16, 16)),
        (128, -1, (8, 16)),
        (127, -1, (1, 127)),
        (128, 4, (4, 32)),
        (10, 4, (2, 5)),
        (6, 6, (6, 1)),
        (12, 5, (3, 4)),
    ],
)
def test_factors(d, factor, pair):
    assert maths.factors(d, factor) == pair


def test_factors_are_those_of_peft():
    factorization = pytest.importorskip("peft.tuners.lokr.layer").factorization
    for d in range(1, 50):
        for factor in (-1, 2, 3, 4, 5, 8, 16, 100):
            assert maths.factors(d, factor) == factorization(d, factor), (d, factor)


def test_clusters_of_adamss_are_found():
    """Three kinds of outputs, far apart in the space of the singular vectors; and every cluster number is used."""
    torch.manual_seed(0)
    kinds = torch.arange(30) % 3
    W = torch.linalg.qr(torch.randn(20, 3)).Q.T[kinds] + 0.001 * torch.randn(30, 20)
    found = maths.k_means(torch.linalg.svd(W).U[:, :3], 3, seed=1)
    assert len({(a.item(), b.item()) for a, b in zip(kinds, found, strict=True)}) == 3
    assert sorted(set(maths.k_means(torch.zeros(5, 2), 4).tolist())) == [0]


def test_adamss_merges_into_the_bias_and_can_lower_its_ranks():
    base = nn.Linear(12, 9)
    layer = AdaMSS(base, 6, 2, 3)
    stir(trained(layer).values())
    assert not torch.equal(layer.merged().bias, base.bias)
    assert AdaMSS(nn.Linear(12, 9, bias=False), 6, 2).merged().bias is None
    lower = AdaMSS(base, 6, 2, 3, threshold=0.9)
    assert sum(map(len, lower.A)) < sum(map(len, layer.A))


def test_rank_dropout_that_drops_all_is_not_nan():
    layer = LoHa(nn.Linear(12, 3), 2, rank_dropout=1.0).train()
    stir(trained(layer).values())
    assert layer(torch.randn(2, 12)).isfinite().all()


def test_pvera_that_samples_at_inference_cannot_be_merged():
    base = nn.Linear(12, 8)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        pvera.shared(base, "", rank=3, sample_at_inference=True)(base).merged()


# Wrong arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said_"),
    [
        (lambda b: AdaLoRA(b, 0), "rank must be at least 1"),
        (lambda b: AdaLoRA(b, alpha=0), "alpha above 0"),
        (lambda b: LoHa(b, 0), "rank must be at least 1"),
        (lambda b: LoKr(b, 0), "rank must be at least 1"),
        (lambda b: LoKr(b, zero="W3"), "zero must be 'W1' or 'W2'"),
        (lambda b: KronA(b, (3, 5)), r"rows may be \[1, 2, 4, 8\], columns \[1, 2, 3, 4, 6, 12\]"),
        (lambda b: LoRAXS(b, 0), "between 1 and 8"),
        (lambda b: LoRAXS(b, 9), "between 1 and 8"),
        (lambda b: AdaMSS(b, 0), "must be at least 1"),
        (lambda b: AdaMSS(b, 4, 0), "must be at least 1"),
        (lambda b: vera.shared(b, "", rank=0), "rank must be at least 1"),
        (lambda b: randlora.shared(b, "", rank=0), "rank must be at least 1"),
        (lambda b: vblora.shared(b, "", length=5), r"\[1, 2, 4\] do"),
        (lambda b: vblora.shared(b, "", length=4, vectors=3, top_k=4)(b), "top_k from 1 to 3"),
        (lambda b: vblora.shared(b, "", length=4, rank=0)(b), "rank must be at least 1"),
        (lambda b: unilora.shared(b, "", length=0), "must be at least 1"),
        (lambda b: tinylora.shared(b, "", numbers=0), "numbers must be at least 1"),
        (lambda b: tinylora.shared(b, "", tie=1.5), "tie between 0 and 1"),
        (lambda b: said.shared(b, "", numbers=97), "between 1 and 96"),
        (lambda b: vera.shared(b, "nothing"), "names no module"),
    ],
)
def test_wrong_arguments(make, said_):
    with pytest.raises(ValueError, match=said_):
        make(nn.Linear(12, 8))


@pytest.mark.parametrize(
    ("make", "base"),
    [
        (LoKr, nn.Embedding(12, 8)),
        (KronA, nn.Embedding(12, 8)),
        (KronA, nn.Conv2d(4, 8, 3)),
        (AdaMSS, nn.Conv2d(4, 8, 3)),
        (lambda b: vera.shared(b, "", rank=2)(b), nn.Conv2d(4, 8, 3)),
        (lambda b: randlora.shared(b, "", rank=2)(b), nn.Conv2d(4, 8, 3)),
    ],
)
def test_layers_that_a_method_cannot_adapt(make, base):
    with pytest.raises(TypeError, match="[Ee]mbedding|[Cc]onv"):
        make(base)
