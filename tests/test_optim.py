"""Optimisers equal Hugging Face peft 0.21.2, galore-torch, apollo-torch and lomo-optim; and what each claims to save.

BAdam and LISA have no oracle that fits here; tested are two properties of each: what moves at a time, and that states
exist for it only.
"""

import copy
from pathlib import Path

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import peft, record, suffixes
from safetensors.torch import load_file
from torch import nn

from peft_from_scratch import LoRA, adapter_state, adapters, full, inject, trained
from peft_from_scratch.measure.memory import saved_bytes
from peft_from_scratch.methods.lowrank.dora import DoRA
from peft_from_scratch.methods.lowrank.psoft import PSOFT
from peft_from_scratch.methods.representation.direft import DiReFT
from peft_from_scratch.methods.representation.reft import LoReFT
from peft_from_scratch.methods.rotation.boft import BOFT
from peft_from_scratch.methods.rotation.hra import HRA
from peft_from_scratch.methods.rotation.oft import OFT
from peft_from_scratch.optim import apollo
from peft_from_scratch.optim.adalomo import AdaLomo
from peft_from_scratch.optim.adam import groups
from peft_from_scratch.optim.apollo import Apollo
from peft_from_scratch.optim.badam import BAdam
from peft_from_scratch.optim.blocks import blocks_of
from peft_from_scratch.optim.galore import GaLore
from peft_from_scratch.optim.in_backward import InBackward
from peft_from_scratch.optim.lisa import LISA
from peft_from_scratch.optim.lomo import lomo
from peft_from_scratch.optim.lora_fa import freeze_A, lora_fa
from peft_from_scratch.optim.lora_plus import lora_plus
from peft_from_scratch.optim.riemannian import riemannian

optimizers = pytest.importorskip("peft.optimizers")
PEFT = "peft 0.21.2"
SITES = ["q_proj", "v_proj", "down_proj"]
LLAMA = r"model\.layers\.\d+"
ORACLE = Path(__file__).parent / "oracles" / "thrift.safetensors"


def twins(embedding=False, rank=3, alpha=5):
    """Our Llama with LoRA and peft's, with the same numbers, B away from zero."""
    sites = SITES + ["embed_tokens"] * embedding
    ours = inject(host("llama"), {suffixes(sites): lambda b: LoRA(b, rank, alpha)})
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=sites)
    theirs = peft.get_peft_model(host("llama"), config)
    stir(trained(ours).values(), std=0.1)
    with torch.no_grad():
        for mine, other in pairs(ours, theirs):
            other.copy_(mine)
    return ours.eval(), theirs.eval()


def pairs(ours, theirs):
    found = []
    for site, a in adapters(ours):
        layer = theirs.base_model.model.get_submodule(site)
        if isinstance(a.base, nn.Embedding):
            found += [(a.A, layer.lora_embedding_A["default"]), (a.B, layer.lora_embedding_B["default"])]
        else:
            found += [(a.A, layer.lora_A["default"].weight), (a.B, layer.lora_B["default"].weight)]
    return found


def walk(model, optimizer, steps=5, name="llama"):
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch(name)).loss.backward()
        optimizer.step()


def same_steps(method, ours, theirs, mine, other, tol=1e-6, steps=5):
    """Both walk, and end at the same place, away from the start."""
    before = [a.detach().clone() for a, _ in pairs(ours, theirs)]
    walk(ours, mine, steps)
    walk(theirs, other, steps)
    apart = max((a - b).abs().max().item() for a, b in pairs(ours, theirs))
    moved = max((a - b).abs().max().item() for (a, _), b in zip(pairs(ours, theirs), before, strict=True))
    assert apart <= tol and moved > 1e-2, (apart, moved)
    record(method, PEFT, apart)


def test_lora_plus_is_peft_s():
    ours, theirs = twins()
    other = optimizers.create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    same_steps("LoRA+", ours, theirs, lora_plus(ours, 1e-3, 16, weight_decay=0.0), other)


def test_lora_plus_gives_b_its_rate_and_peft_gives_it_to_every_vector():
    """Magnitudes of DoRA are vectors: the paper's rate for them is A's, peft's is B's. Embeddings hardly move there."""
    ours = inject(host("llama"), {suffixes(SITES): DoRA})
    made = lora_plus(ours, 1e-3, 16)
    rate = {id(p): g["lr"] for g in made.param_groups for p in g["params"]}
    assert {rate[id(p)] for k, p in trained(ours).items() if k.endswith(".B")} == {16e-3}
    assert {rate[id(p)] for k, p in trained(ours).items() if not k.endswith(".B")} == {1e-3}
    theirs = peft.get_peft_model(host("llama"), peft.LoraConfig(target_modules=SITES, use_dora=True))
    other = optimizers.create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    fast = {id(p) for g in other.param_groups if g["lr"] == 16e-3 for p in g["params"]}
    assert all(id(p) in fast for k, p in theirs.named_parameters() if "magnitude" in k)

    ours, theirs = twins(embedding=True)
    other = optimizers.create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)
    same_steps("LoRA+", ours, theirs, lora_plus(ours, 1e-3, 16, embedding_lr=1e-6, weight_decay=0.0), other)
    assert sorted(g["lr"] for g in lora_plus(ours, 1e-3, 16).param_groups) == [1e-3, 1e-3, 16e-3]


def test_lora_fa_is_peft_s_without_its_bfloat16(monkeypatch):
    """Both with a tiny eps, for theirs stands elsewhere in Adam than torch's."""
    module = pytest.importorskip("peft.optimizers.lorafa")
    monkeypatch.setattr(module, "is_bf16_available", lambda: False)
    ours, theirs = twins()
    other = optimizers.create_lorafa_optimizer(theirs, r=3, lora_alpha=5, lr=5e-3)
    other.param_groups[0]["eps"] = 1e-15
    same_steps("LoRA-FA", ours, theirs, lora_fa(ours, 5e-3, eps=1e-15, weight_decay=0.0), other, tol=5e-6)


def test_peft_corrects_in_bfloat16_and_we_in_float32():
    ours, theirs = twins()
    other = optimizers.create_lorafa_optimizer(theirs, r=3, lora_alpha=5, lr=5e-3)
    other.param_groups[0]["eps"] = 1e-15
    mine = lora_fa(ours, 5e-3, eps=1e-15, weight_decay=0.0)
    walk(ours, mine)
    walk(theirs, other)
    apart = max((a - b).abs().max().item() for a, b in pairs(ours, theirs))
    assert 1e-6 < apart < 5e-3


def test_lora_fa_corrects_the_gradient_towards_the_weight_s_own():
    """With g_W = ∂L/∂W, the change s g_B A is the nearest to g_W among all s X A: its error is orthogonal to A."""
    torch.manual_seed(0)
    model = inject(nn.Sequential(nn.Linear(9, 5)), {"0": lambda b: LoRA(b, 2, alpha=6)})
    optimizer = lora_fa(model, lr=0.0 + 1e-9)
    x, target = torch.randn(40, 9), torch.randn(40, 5)
    loss = (model(x) - target).square().sum()
    loss.backward()
    A, s = model[0].A.detach(), model[0].scale
    plain = (2 * (model(x) - target)).detach().T @ x  # ∂L/∂W
    optimizer.step()
    error = s * model[0].B.grad @ A - plain
    assert (error @ A.T).abs().max() < 1e-2 * (plain @ A.T).abs().max()


def test_lora_fa_freezes_a_keeps_it_in_the_state_and_saves_activations():
    model = inject(host("llama"), {suffixes(SITES): lambda b: LoRA(b, 2)})
    before, state = saved_bytes(model, batch("llama")), adapter_state(model)
    assert len(freeze_A(model)) == len(trained(model)) == 6
    assert adapter_state(model).keys() == state.keys()
    with_A_frozen = saved_bytes(model, batch("llama"))
    assert with_A_frozen < before
    walk(model, lora_fa(model, 1e-2))
    moved = {k for k, t in adapter_state(model).items() if not torch.equal(t, state[k])}
    assert moved == {k for k in state if k.endswith(".B")}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_riemannian_is_peft_s(kind):
    ours, theirs = twins()
    settings = dict(lr=0.3 if kind is torch.optim.SGD else 5e-3, weight_decay=0.0)
    mine = riemannian(ours, kind(trained(ours).values(), **settings), damping=1e-2)
    other = optimizers.create_riemannian_optimizer(theirs, kind, reg=1e-2, **settings)
    same_steps("Riemannian LoRA", ours, theirs, mine, other, tol=1e-5)


def test_riemannian_steps_do_not_depend_on_the_split():
    """A / c and c B are the same change; after a step of plain SGD no more, after a preconditioned one they are."""

    def change(c, precondition):
        torch.manual_seed(0)
        model = inject(nn.Sequential(nn.Linear(9, 5)).double(), {"0": lambda b: LoRA(b, 2)})
        stir(trained(model).values())
        with torch.no_grad():
            model[0].A /= c
            model[0].B *= c
        optimizer = torch.optim.SGD(trained(model).values(), lr=0.01)
        optimizer = riemannian(model, optimizer, damping=1e-12) if precondition else optimizer
        x = torch.randn(7, 9, generator=torch.Generator().manual_seed(1)).double()
        model(x).square().sum().backward()
        optimizer.step()
        return model[0].change().detach()

    assert (change(1.0, True) - change(10.0, True)).abs().max() < 1e-6
    assert (change(1.0, False) - change(10.0, False)).abs().max() > 0.1


def test_bad_arguments_of_the_lora_optimisers():
    plain, model = host("llama"), inject(host("llama"), {suffixes(SITES): LoRA})
    with pytest.raises(ValueError, match="A and a B that train"):
        lora_plus(plain, 1e-3)
    with pytest.raises(ValueError, match="lr and ratio"):
        lora_plus(model, 1e-3, ratio=0)
    with pytest.raises(ValueError, match="damping must not be below 0"):
        lora_fa(model, 1e-3, damping=-1)
    optimizer = riemannian(model, torch.optim.SGD(trained(model).values(), lr=0.1))
    with pytest.raises(ValueError, match="do not go with a closure"):
        optimizer.step(lambda: 0.0)
    with pytest.raises(ValueError, match="damping must be above 0"):
        riemannian(model, optimizer, 0.0)
    freeze_A(model)
    with pytest.raises(ValueError, match="trains both A and B"):
        riemannian(model, optimizer)


def replay(make, recorded, each=lambda i: None):
    """Where our optimiser goes with the recorded gradients, and the largest distance from the recorded path."""
    kept = load_file(ORACLE)
    weights = {k: nn.Parameter(kept[f"start.{k}"].clone()) for k in ("tall", "wide", "vector")}
    optimizer = make([{"params": [weights["tall"], weights["wide"]], "rank": 2}, {"params": [weights["vector"]]}])
    worst = 0.0
    for i in range(8):
        each(i)
        for k, p in weights.items():
            p.grad = kept[f"gradient.{k}"][i].clone()
        optimizer.step()
        worst = max(worst, *((p - kept[f"{recorded}.{k}"][i]).abs().max().item() for k, p in weights.items()))
    assert (weights["tall"] - kept["start.tall"]).abs().max() > 0.05
    return worst


def test_galore_is_galore_torch():
    worst = replay(lambda g: GaLore(g, lr=0.05, every=3, weight_decay=0.1), "galore")
    assert worst <= 1e-5
    record("GaLore", "galore-torch 1.0", worst)


@pytest.mark.parametrize(("per", "scale"), [("channel", 1.0), ("tensor", 4.0)])
def test_apollo_is_apollo_torch_on_its_projections(per, scale, monkeypatch):
    kept, now = load_file(ORACLE), [0]

    def projection(rank, size, seed, period):
        P = kept[f"P.{per}.{'tall' if seed == 0 else 'wide'}"][now[0]]
        return P if seed == 0 else P.T

    monkeypatch.setattr(apollo, "projection", projection)
    make = lambda g: Apollo(g, lr=0.05, every=3, scale=scale, per=per, weight_decay=0.1)  # noqa: E731
    worst = replay(make, f"apollo.{per}", lambda i: now.__setitem__(0, i))
    assert worst <= 1e-5
    record("APOLLO", "apollo-torch 1.0.3", worst)


def test_adalomo_is_lomo_optim():
    worst = replay(lambda g: AdaLomo(g, lr=0.05, weight_decay=0.1), "adalomo")
    assert worst <= 1e-5
    record("AdaLomo", "lomo-optim 0.1.1", worst)


def test_projections_keep_lengths_and_come_from_a_seed():
    P = apollo.projection(400, 50, seed=1, period=0)
    g = torch.randn(50, 20)
    assert ((P @ g).norm(dim=0) / g.norm(dim=0) - 1).abs().max() < 0.2
    assert torch.equal(P, apollo.projection(400, 50, 1, 0)) and not torch.equal(P, apollo.projection(400, 50, 1, 1))


def floats(optimizer):
    return sum(t.numel() for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor))


MAKE = {
    "galore": lambda model: GaLore(groups(model, rank=2), lr=5e-3),
    "apollo": lambda model: Apollo(groups(model, rank=2), lr=5e-2),
    "adalomo": lambda model: AdaLomo(trained(model).values(), lr=2e-2),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_learns_and_goes_on_from_a_saved_state(kind, dtype):
    def fresh():
        model = full(host("llama").to(dtype))
        return model, MAKE[kind](model)

    model, optimizer = fresh()
    first = model(**batch("llama")).loss.item()
    walk(model, optimizer, 10)
    assert model(**batch("llama")).loss.item() < first - 0.02
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walk(model, optimizer, 2)
    walk(again, other, 2)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", MAKE)
def test_states_are_smaller_than_adam_s(kind):
    model = full(host("llama"))
    optimizer = MAKE[kind](model)
    walk(model, optimizer, 1)
    matrices = [
        layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer.weight.shape[0] != 61
    ]
    rest = sum(p.numel() for p in model.parameters()) - sum(W.numel() for W in matrices)
    m, n = zip(*(sorted(W.shape) for W in matrices), strict=True)
    exact = {
        "galore": sum(2 * 2 * big + 2 * small for small, big in zip(m, n, strict=True)) + 2 * rest,
        "apollo": sum(2 * 2 * big + 1 for big in n) + 2 * rest,
        "adalomo": sum(sum(p.shape) for p in model.parameters()),
    }
    assert floats(optimizer) == exact[kind]


def both_ways(make):
    """The same model trained three steps by an optimiser, and inside the backward pass."""
    a, b = full(host("llama")), full(host("llama"))
    walk(a, make(a), 3)
    inside = InBackward(groups(b, rank=2), lambda g: GaLore(g, lr=5e-3))
    return a, b, inside


def test_updates_in_the_backward_pass_are_the_same_steps():
    a, b, inside = both_ways(MAKE["galore"])
    alive = []
    for p in b.parameters():  # how many gradients exist at the moment one is done
        p.register_post_accumulate_grad_hook(lambda p: alive.append(sum(q.grad is not None for q in b.parameters())))
    for _ in range(3):
        b(**batch("llama")).loss.backward()
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q) and q.grad is None
    assert max(alive) == 0, "each gradient is gone before the next one is made"
    inside.finish()
    before = b.lm_head.weight.clone()
    b(**batch("llama")).loss.backward()
    assert torch.equal(b.lm_head.weight, before) and b.lm_head.weight.grad is not None


def test_lomo_is_sgd_with_and_without_clipping():
    for clip in (None, 0.1):
        a, b = full(host("llama")), full(host("llama"))
        optimizer, inside = torch.optim.SGD(a.parameters(), lr=0.1), lomo(b, lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            a(**batch("llama")).loss.backward()
            if clip:
                norm = nn.utils.clip_grad_norm_(a.parameters(), clip)
            optimizer.step()
            seen = inside.step(b(**batch("llama")).loss, clip)
        assert clip is None or torch.allclose(seen, norm)
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-7) and q.grad is None
        assert not torch.equal(a.lm_head.weight, host("llama").lm_head.weight)


def test_bad_arguments_of_the_thrifty_optimisers():
    model = full(host("llama"))
    for make in (GaLore, Apollo):
        with pytest.raises(ValueError, match="rank 99 needs matrices"):
            make(groups(model, rank=99))
        with pytest.raises(ValueError, match="every"):
            make(model.parameters(), every=0)
        with pytest.raises(ValueError, match="no closure"):
            make(model.parameters()).step(lambda: 0)
    with pytest.raises(ValueError, match="'channel' or 'tensor'"):
        Apollo(model.parameters(), per="row")
    with pytest.raises(ValueError, match="lr must be above 0"):
        AdaLomo(model.parameters(), lr=0)
    with pytest.raises(ValueError, match="no closure"):
        AdaLomo(model.parameters()).step(lambda: 0)
    with pytest.raises(ValueError, match=r"call full\(model\) first"):
        groups(inject(host("llama"), {suffixes(SITES): LoRA}), rank=2)
    with pytest.raises(ValueError, match="no parameters to optimise"):
        InBackward([], lambda g: GaLore(g))


def moved(model, before):
    return {k for k, p in model.named_parameters() if not torch.equal(p, before[k])}


def turn(model, who, steps=1):
    """The names of what moves in so many steps."""
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    for _ in range(steps):
        who.zero_grad()
        model(**batch("llama")).loss.backward()
        who.step()
    return moved(model, before)


def test_lisa_trains_some_layers_and_always_the_ends():
    model = full(host("llama"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    lisa = LISA(model, LLAMA, optimizer, active=1, every=2, seed=3)
    ends = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    seen = set()
    for _ in range(6):
        awake = lisa.awake[0]
        names = turn(model, lisa, steps=2)
        assert ends <= names and {k.split(".")[2] for k in names - ends} == {str(awake)}
        seen.add(awake)
    assert seen == {0, 1}
    sleeping = [p for i, block in enumerate(lisa.blocks) if i not in lisa.awake for p in block]
    assert all(p.grad is None and p not in optimizer.state for p in sleeping)
    lisa.finish()
    assert all(p.requires_grad for p in model.parameters())
    for wrong in (dict(active=3), dict(active=0), dict(every=0)):
        with pytest.raises(ValueError, match="active must be 1 to 2"):
            LISA(model, LLAMA, optimizer, **wrong)


def test_lisa_draws_each_layer_equally_often():
    model = full(host("llama"))
    lisa = LISA(model, LLAMA, torch.optim.SGD(model.parameters(), lr=0.1), active=1, every=1)
    drawn = []
    for _ in range(400):
        drawn += lisa.awake
        lisa.step()
    assert 150 < sum(drawn) < 250
    lisa.finish()
    again = LISA(model, LLAMA, lisa.optimizer, active=1, every=1)
    assert [again.drawn(turn)[0] for turn in range(400)] == drawn, "the number of steps decides, nothing else"


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
def test_badam_trains_every_block_once_before_one_again(order):
    model = full(host("llama"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    badam = BAdam(model, rf"{LLAMA}|model\.embed_tokens|model\.norm|lm_head", optimizer, every=2, order=order)
    turns = []
    for _ in range(10):
        turns.append(badam.awake[0])
        names = turn(model, badam, steps=2)
        assert names == {k for k, p in model.named_parameters() if any(p is q for q in badam.blocks[turns[-1]])}
        assert not optimizer.state, "states of the block that is left are gone"
    assert sorted(turns[:5]) == sorted(turns[5:]) == list(range(5))
    assert order == "random" or turns[:5] == sorted(turns[:5], reverse=order == "descending")
    badam.finish()
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="order must be one of"):
        BAdam(model, LLAMA, optimizer, order="sideways")
    with pytest.raises(ValueError, match="starts no name of what trains"):
        blocks_of(model, "encoder.layers")


ROTATIONS = {
    "OFT": lambda b: OFT(b, 4),
    "OFT, one block": lambda b: OFT(b, 4, shared=True),
    "COFT": lambda b: OFT(b, 4, epsilon=1.0),
    "BOFT": lambda b: BOFT(b, 2, 2),
    "HRA": lambda b: HRA(b, 5),
    "HRA, orthogonal": lambda b: HRA(b, 5, orthogonal=True),
    "PSOFT": lambda b: PSOFT(b, 5, relaxed=False),
    "LoReFT": lambda b: LoReFT(b, 4),
    "DiReFT": lambda b: DiReFT(b, 4, orthonormal=True),
}


def rotation(adapter):
    """The matrix that the paper calls orthogonal, or with orthonormal rows."""
    if isinstance(adapter, PSOFT):
        return adapter.turn().detach() + torch.eye(adapter.rank)
    if isinstance(adapter, LoReFT | DiReFT):
        return adapter.R().detach()
    return adapter.turn(torch.eye(adapter.base.in_features)).detach()


@pytest.mark.parametrize("kind", ROTATIONS)
def test_rotations_survive_a_hundred_steps_with_weight_decay(kind):
    """The parametrisation keeps them orthonormal: no step, and no decay, can leave."""
    torch.manual_seed(0)
    model = inject(nn.Sequential(nn.Linear(12, 16)), {"0": ROTATIONS[kind]})
    start, first = rotation(model[0]), None
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-2, weight_decay=0.1)
    x, target = torch.randn(40, 12), torch.randn(40, 16)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    R = rotation(model[0])
    assert (R @ R.T - torch.eye(len(R))).abs().max() < 1e-5
    assert (R - start).abs().max() > 0.05 and loss.item() < 0.95 * first
