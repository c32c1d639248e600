"""OFT, BOFT, HRA, RoAd and (IA)³ equal Hugging Face peft 0.21.2; where it departs from the paper both facts hold."""

import copy

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import Twin, peft
from torch import nn

from peft_from_scratch import inject, merge, trained
from peft_from_scratch.methods.adapters.ia3 import IA3
from peft_from_scratch.methods.maths import skew
from peft_from_scratch.methods.rotation.boft import BOFT
from peft_from_scratch.methods.rotation.hra import HRA, orthogonality
from peft_from_scratch.methods.rotation.oft import OFT
from peft_from_scratch.methods.rotation.road import RoAd

LINEAR = {
    "bert": ["query", "value", "intermediate.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
EMBEDDING = LINEAR | {"bert": [*LINEAR["bert"], "word_embeddings"], "gpt2": ["wte"]}  # peft: no Conv1D


class Through:
    """Their tensor, seen in our coordinates: `put` takes ours to theirs, `see` takes their gradient to ours."""

    def __init__(self, theirs, put, see):
        self.theirs, self.put, self.see = theirs, put, see

    def copy_(self, mine):
        self.theirs.copy_(self.put(mine))

    @property
    def grad(self):
        return self.see(self.theirs.grad)


def minus(theirs):
    return Through(theirs, torch.neg, torch.neg)


def reshaped(ours, theirs):
    return Through(theirs, lambda t: t.view_as(theirs), lambda g: g.view_as(ours))


def loud(name):
    """A host with weights large enough for their rotation to matter: what is near zero stays there."""
    model = host(name)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4 if p.dim() > 1 and name == "bert" else 1)
    return model


def model(given):
    return loud(given) if isinstance(given, str) else given


def conv(kernel=3, **settings):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, kernel, **settings), nn.Flatten())


PICTURE = torch.randn(2, 4, 7, 8, generator=torch.Generator().manual_seed(4))

# -- OFT ---------------------------------------------------------------------------------------------------------------


def oft(name, block=4, terms=0, shared=False):
    targets = EMBEDDING[name] if isinstance(name, str) else ["0"]
    config = peft.OFTConfig(
        oft_block_size=block,
        use_cayley_neumann=bool(terms),
        num_cayley_neumann_terms=terms,
        block_share=shared,
        target_modules=targets,
    )

    def pairs(ours, theirs):
        theirs = (theirs.oft_embedding_R if isinstance(ours.base, nn.Embedding) else theirs.oft_R)["default"].weight
        return [(ours.Q, theirs if terms else minus(theirs))]

    return Twin(model(name), targets, lambda b: OFT(b, block, terms, shared), config, pairs)


@pytest.mark.parametrize("name", EMBEDDING)
@pytest.mark.parametrize(("terms", "shared"), [(0, False), (5, False), (0, True), (4, True)])
def test_oft(name, terms, shared):
    oft(name, terms=terms, shared=shared).check("OFT", name, tol=2e-6)


def test_oft_merges_as_peft_does():
    twin = oft("llama", terms=5)
    given = batch("llama")
    theirs = twin.theirs.merge_and_unload()(**given).logits
    assert (merge(twin.ours)(**given).logits - theirs).abs().max() <= 1e-5


def test_oft_exact_in_peft_has_the_other_sign_than_its_own_series():
    """The paper's R is (I + Q)(I - Q)⁻¹, and so is the series; peft's exact R is the inverse of that."""
    base = nn.Linear(8, 8, bias=False)
    x = torch.eye(8)
    theirs = {}
    for series in (False, True):
        config = peft.OFTConfig(oft_block_size=4, use_cayley_neumann=series, target_modules=["0"])
        model = peft.get_peft_model(nn.Sequential(copy.deepcopy(base)), config)
        with torch.no_grad():
            model.base_model.model[0].oft_R["default"].weight.fill_(0.02)
        theirs[series] = model(x)
    ours = OFT(base, 4)
    nn.init.constant_(ours.Q, 0.02)
    assert (ours(x) - theirs[True]).abs().max() < 1e-5
    assert (ours(x) - theirs[False]).abs().max() > 1e-2
    nn.init.constant_(ours.Q, -0.02)
    assert (ours(x) - theirs[False]).abs().max() < 1e-6


def test_oft_on_a_convolution_of_single_pixels():
    oft(conv(kernel=1), block=2).check("OFT", PICTURE)


def test_peft_turns_overlapping_patches_and_adds_them_up_and_we_turn_the_kernels():
    """peft 0.21.2 folds turned patches back into one picture: even Q = 0 changes the output of a 3 × 3 convolution."""
    config = peft.OFTConfig(oft_block_size=6, target_modules=["0"])
    assert (peft.get_peft_model(conv(), config)(PICTURE) - conv()(PICTURE)).abs().max() > 1
    ours = inject(conv(), {"0": lambda b: OFT(b, 6)})
    assert torch.equal(ours(PICTURE), conv()(PICTURE))


def test_coft_holds_each_block_in_its_ball():
    """Forward is peft's, which projects Q itself there: its gradient keeps the part along Q, which ours has lost."""
    config = peft.OFTConfig(oft_block_size=4, use_cayley_neumann=True, coft=True, eps=0.3, target_modules=["0"])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 5))
    theirs = peft.get_peft_model(copy.deepcopy(net), config)
    ours = inject(net, {"0": lambda b: OFT(b, 4, terms=5, epsilon=0.3)})
    stir(trained(ours).values())
    weight = theirs.base_model.model[0].oft_R["default"].weight
    with torch.no_grad():
        weight.copy_(ours[0].Q)
    x = torch.randn(7, 12)
    assert (ours(x) - theirs(x)).abs().max() < 1e-6
    ours(x).square().mean().backward(), theirs(x).square().mean().backward()
    Q, g = ours[0].Q.detach(), weight.grad
    norm = skew(Q, 4).norm(dim=(1, 2))[:, None]
    assert (norm > 0.3 / 3**0.5).all(), "every block must be outside, or nothing is tested"
    along = Q / Q.norm(dim=1, keepdim=True)
    tangent = (g - (g * along).sum(1, keepdim=True) * along) * (0.3 / 3**0.5) / norm
    assert (ours[0].Q.grad - tangent).abs().max() < 1e-6


def test_oft_turns_and_does_not_stretch():
    base = nn.Linear(12, 5)
    exact, series = OFT(base, 4), OFT(base, 4, terms=5)
    stir([exact.Q, series.Q])
    W = base.weight
    for adapter, within in ((exact, 1e-6), (series, 1)):
        lengths = adapter.turned_weight().norm(dim=1)
        assert (lengths - W.norm(dim=1)).abs().max() < within
    assert (series.turned_weight().norm(dim=1) - W.norm(dim=1)).abs().max() > 1e-4, (
        "the series is only nearly a rotation"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(block_size=5), "use a block size of 2, 3, 4, 6, 12"),
        (dict(block_size=1), "use a block size of"),
        (dict(block_size=4, terms=2), "at least 3"),
        (dict(block_size=4, epsilon=0.0), "above 0"),
    ],
)
def test_oft_refuses(settings, words):
    with pytest.raises(ValueError, match=words):
        OFT(nn.Linear(12, 5), **settings)


# -- BOFT --------------------------------------------------------------------------------------------------------------


class BlockDiagonal:
    """What peft's CUDA extension computes, in torch, so that peft does more than one factor on a CPU."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*b) for b in blocks])]

    @staticmethod
    def backward(grad, blocks):
        _, k, b, _ = blocks.shape
        return [torch.stack([grad[:, i * b : i * b + b, i * b : i * b + b] for i in range(k)], 1).contiguous()]


@pytest.fixture
def any_factor(monkeypatch):
    monkeypatch.setattr("peft.tuners.boft.layer._FBD_CUDA", BlockDiagonal)


def boft(name, block=2, factors=3, dropout=0.0):
    targets = LINEAR[name] if isinstance(name, str) else ["0"]
    config = peft.BOFTConfig(
        boft_block_size=block, boft_n_butterfly_factor=factors, boft_dropout=dropout, target_modules=targets
    )

    def pairs(ours, theirs):
        R, (i, j) = theirs.boft_R["default"], torch.triu_indices(block, block, 1)
        # they use (D - Dᵀ) / 2 with the other sign, so each of ours is in two of theirs
        Q = Through(R, lambda v: -skew(v, block).view_as(R), lambda g: -2 * g.flatten(0, 1)[:, i, j])
        return [(ours.Q, Q), (ours.s, reshaped(ours.s, theirs.boft_s["default"]))]

    return Twin(model(name), targets, lambda b: BOFT(b, block, factors, dropout), config, pairs)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(("block", "factors"), [(4, 1), (4, 2), (2, 3)])
def test_boft(name, block, factors, any_factor):
    boft(name, block, factors).check("BOFT", name, tol=5e-6)


def test_boft_with_dropout(any_factor):
    boft("bert", 2, 3, dropout=0.5).check("BOFT", "bert", tol=5e-6, train_seed=5)


def test_boft_on_a_convolution(any_factor):
    boft(conv(stride=2, padding=1), 2, 2).check("BOFT", PICTURE)


def test_boft_mixes_features_that_one_factor_keeps_apart():
    """The paper's point: m factors reach 2^(m-1) blocks with m times the numbers of one."""
    for factors, reach in ((1, 2), (2, 4), (3, 8)):
        adapter = BOFT(nn.Linear(8, 8, bias=False), 2, factors)
        stir([adapter.Q])
        R = adapter.turn(torch.eye(8))
        assert (R.abs() > 1e-7).sum() == 8 * reach
        assert (R @ R.T - torch.eye(8)).abs().max() < 1e-6


def test_boft_trains_half_of_what_peft_trains(any_factor):
    twin = boft("bert", 4, 1)
    s = sum(a.s.numel() for a in twin.ours.modules() if isinstance(a, BOFT))
    mine = sum(p.numel() for p in trained(twin.ours).values()) - s
    theirs = sum(p.numel() for n, p in twin.theirs.named_parameters() if "boft_R" in n)
    assert mine / theirs == (4 - 1) / (2 * 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(block_size=4, factors=3), "groups of 4 blocks of 4 do not divide 12 features"),
        (dict(block_size=3, factors=2), "block_size even"),
        (dict(factors=0), "at least 1"),
        (dict(dropout=1.0), "dropout"),
    ],
)
def test_boft_refuses(settings, words):
    with pytest.raises(ValueError, match=words):
        BOFT(nn.Linear(12, 5), **settings)


# -- HRA ---------------------------------------------------------------------------------------------------------------


def hra(name, rank=4, orthogonal=False):
    targets = LINEAR[name] if isinstance(name, str) else ["0"]
    config = peft.HRAConfig(r=rank, apply_GS=orthogonal, init_weights=not orthogonal, target_modules=targets)
    pairs = lambda o, t: [(o.U, t.hra_u["default"])]  # noqa: E731
    return Twin(model(name), targets, lambda b: HRA(b, rank, orthogonal), config, pairs, std=0.4)


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(("rank", "orthogonal"), [(4, False), (5, False), (5, True)])
@pytest.mark.filterwarnings("ignore:The symmetric initialization")
def test_hra(name, rank, orthogonal):
    hra(name, rank, orthogonal).check("HRA", name, tol=5e-6)


def test_hra_on_a_convolution():
    hra(conv(stride=2, padding=1)).check("HRA", PICTURE, tol=5e-6)


def test_hra_equals_one_mirror_after_the_other():
    adapter = HRA(nn.Linear(12, 5), 4)
    stir([adapter.U])
    W = adapter.base.weight
    for u in adapter.U.T:
        W = W - 2 * torch.outer(W @ u, u) / u.dot(u)
    assert (adapter.turned_weight() - W).abs().max() < 1e-5


def test_peft_orthogonalises_equal_pairs_and_we_independent_vectors():
    """In peft 0.21.2 Gram-Schmidt meets u_1 = u_2 at its start: what is left of u_2 is rounding, or 0 and then NaN."""
    config = peft.HRAConfig(r=4, apply_GS=True, target_modules=["0"])
    U = peft.get_peft_model(nn.Sequential(nn.Linear(12, 5)), config).base_model.model[0].hra_u["default"]
    assert torch.equal(U[:, ::2], U[:, 1::2])
    assert torch.linalg.matrix_rank(U) == 2
    for seed in range(20):
        torch.manual_seed(seed)
        adapter = HRA(nn.Linear(12, 5), 4, orthogonal=True)
        assert torch.linalg.matrix_rank(adapter.U) == 4
        V = adapter.unit()
        assert (V.T @ V - torch.eye(4)).abs().max() < 1e-5


def test_the_penalty_of_hra_is_zero_for_orthonormal_vectors():
    model = inject(nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6)), {".+": lambda b: HRA(b, 2)})
    assert abs(orthogonality(model) - 4) < 1e-5  # two pairs of equal vectors: off the diagonal 1, twice a layer
    with torch.no_grad():
        for p in trained(model).values():
            p.copy_(3 * torch.eye(*p.shape))
    assert orthogonality(model) < 1e-10
    with pytest.raises(ValueError, match="no HRA"):
        orthogonality(nn.Linear(2, 2))


@pytest.mark.parametrize("rank", [0, 13])
def test_hra_refuses(rank):
    with pytest.raises(ValueError, match="rank must be from 1 to d_in=12"):
        HRA(nn.Linear(12, 5), rank)


@pytest.mark.parametrize("method", [BOFT, HRA, lambda b: IA3(b, feed_forward=True)])
def test_the_input_of_an_embedding_is_no_vector(method):
    with pytest.raises(ValueError, match="a token's number"):
        method(nn.Embedding(12, 8))


# -- RoAd --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("variant", [1, 2, 4])
def test_road(name, variant):
    targets = [t for t in LINEAR[name] if (name, t) not in {("t5", "q"), ("t5", "v")}]  # 30 outputs there
    config = peft.RoadConfig(variant=f"road_{variant}", group_size=8, target_modules=targets)

    def pairs(o, t):
        return [
            (o.theta, reshaped(o.theta, t.road_theta["default"])),
            (o.alpha, reshaped(o.alpha, t.road_alpha["default"])),
        ]

    twin = Twin(loud(name), targets, lambda b: RoAd(b, variant, 8), config, pairs)
    twin.check("RoAd", name, tol=2e-6)
    given = batch(name)
    assert (merge(twin.ours)(**given).logits - twin.theirs.merge_and_unload()(**given).logits).abs().max() <= 1e-5


def test_road_1_turns_and_stretches():
    adapter = RoAd(nn.Linear(5, 4), 1, 4)
    stir(trained(adapter).values())
    y = torch.randn(3, 4)
    turned, length = adapter.rotate(y), adapter.alpha.detach().abs().view(2)
    assert torch.allclose(turned[:, [0, 2]].norm(dim=1), length[0] * y[:, [0, 2]].norm(dim=1))
    assert torch.allclose(turned[:, [1, 3]].norm(dim=1), length[1] * y[:, [1, 3]].norm(dim=1))


@pytest.mark.parametrize(
    ("layer", "settings", "words"),
    [
        (nn.Linear(5, 12), dict(variant=3), "1, 2 or 4"),
        (nn.Linear(5, 12), dict(group_size=8), r"\[2, 4, 6, 12\] would"),
        (nn.Linear(5, 12), dict(group_size=3), "even"),
        (nn.Conv2d(4, 8, 3, groups=2), dict(group_size=8), r"divide the 4 outputs"),
    ],
)
def test_road_refuses(layer, settings, words):
    with pytest.raises(ValueError, match=words):
        RoAd(layer, **settings)


# -- (IA)³ -------------------------------------------------------------------------------------------------------------

IA3_TARGETS = {  # keys and values; inputs of the feed-forward layer's second matrix
    "bert": (["key", "value"], ["output.dense"]),
    "gpt2": (["c_attn"], ["mlp.c_proj"]),
    "llama": (["k_proj", "v_proj"], ["down_proj"]),
    "t5": (["k", "v"], ["wo"]),
}


def ia3(model, kv, ff, **settings):
    config = peft.IA3Config(target_modules=kv + ff, feedforward_modules=ff, **settings)
    # the sites of ff are told by identity, since a factory sees no names
    seconds = [m for n, m in model.named_modules() if any(n == t or n.endswith(f".{t}") for t in ff)]

    def pairs(o, t):
        return [(o.l, reshaped(o.l, t.ia3_l["default"]))]

    return Twin(model, kv + ff, lambda b: IA3(b, feed_forward=any(b is m for m in seconds)), config, pairs)


@pytest.mark.parametrize("name", IA3_TARGETS)
def test_ia3(name):
    twin = ia3(loud(name), *IA3_TARGETS[name], fan_in_fan_out=name == "gpt2")
    twin.check("(IA)³", name, tol=1e-6, effect=5e-3)
    given = batch(name)
    assert (merge(twin.ours)(**given).logits - twin.theirs.merge_and_unload()(**given).logits).abs().max() <= 1e-5


@pytest.mark.parametrize("ff", [[], ["0"]])
@pytest.mark.parametrize("groups", [1, 2])
def test_ia3_on_a_convolution(ff, groups):
    kv = [] if ff else ["0"]
    ia3(conv(stride=2, padding=1, groups=groups), kv, ff).check("(IA)³", PICTURE, tol=1e-6)


def test_ia3_scales_the_bias_of_keys_and_values_too():
    base = nn.Linear(3, 4)
    adapter = IA3(base)
    with torch.no_grad():
        adapter.l.fill_(2)
    x = torch.randn(5, 3)
    assert torch.equal(adapter(x), 2 * base(x))
    assert torch.equal(adapter.merged().bias, 2 * base.bias)
    assert torch.equal(IA3(base, feed_forward=True).merged().bias, base.bias)
