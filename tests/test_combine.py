"""Combining trained changes equals Hugging Face peft 0.21.2; where peft leaves the paper, both facts are tested."""

import copy
from functools import partial

import pytest
import torch
from hosts import batch, host, stir
from peft_twin import peft, record, suffixes
from torch import nn

from peft_from_scratch import LoRA, Replaced, adapter_state, adapters, inject, merge, switch, trained
from peft_from_scratch.combine.arithmetic import add, combine, task_vector, weighted_sum
from peft_from_scratch.combine.dare import dare, dare_ties, drop
from peft_from_scratch.combine.intruders import intruders, reduce_intruders, shrunk
from peft_from_scratch.combine.lora_soup import LoRASoup, lora_soup
from peft_from_scratch.combine.loras import by_svd, cat, inject_loras, linear, low_rank
from peft_from_scratch.combine.prune import largest, magnitude_prune
from peft_from_scratch.combine.soups import greedy_soup, soup, wise
from peft_from_scratch.combine.ties import agreeing_mean, ties
from peft_from_scratch.combine.to_lora import rank_for, to_lora
from peft_from_scratch.methods.lowrank.loha import LoHa
from peft_from_scratch.methods.mixture.experts import Expert, from_model
from peft_from_scratch.methods.rotation.oft import OFT

utils = pytest.importorskip("peft.utils.merge_utils")
PEFT = "peft 0.21.2"
TARGETS = {
    "bert": ["query", "value", "word_embeddings"],
    "gpt2": ["c_attn", "c_fc", "wte"],
    "llama": ["q_proj", "k_proj", "down_proj"],
    "t5": ["q", "v", "wi"],
}
WEIGHTS = [0.7, -0.4]


def changes(tasks=3, shape=(5, 7), seed=1):
    return torch.randn(tasks, *shape, generator=torch.Generator().manual_seed(seed))


RULES = {
    "Task arithmetic": (weighted_sum, utils.task_arithmetic),
    "Magnitude prune": (partial(magnitude_prune, density=0.3), partial(utils.magnitude_prune, density=0.3)),
    "TIES": (partial(ties, density=0.4), partial(utils.ties, density=0.4)),
    "TIES, frequency": (
        partial(ties, density=0.9, vote="frequency"),
        partial(utils.ties, density=0.9, majority_sign_method="frequency"),
    ),
    "DARE": (partial(dare, density=0.3), partial(utils.dare_linear, density=0.3)),
    "DARE, TIES": (partial(dare_ties, density=0.6), partial(utils.dare_ties, density=0.6)),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_are_peft_s(name):
    """Three tasks, so that votes can be counted; the same random masks from the same seed."""
    mine, theirs = RULES[name]
    t, w = changes(), torch.tensor([0.5, -1.0, 2.0])
    torch.manual_seed(3)
    a = mine(t, w)
    torch.manual_seed(3)
    b = theirs(list(t), w)
    assert a.any() and (a - b).abs().max() <= 1e-6
    record(name.split(",")[0], PEFT, (a - b).abs().max().item())


def test_where_both_sides_are_equal_ties_merges_nothing_and_peft_takes_the_positive_side():
    """Yadav et al. elect sgn(0) = 0 there."""
    t, w = torch.tensor([[1.0, 2.0], [-1.0, 1.0]]), torch.ones(2)
    assert torch.equal(ties(t, w, 1.0), torch.tensor([0.0, 1.5]))
    assert utils.calculate_majority_sign_mask(t)[:, 0].tolist() == [True, False]


def loras(name):
    """peft's model with LoRAs "one" and "two" of unequal scale, ours with the same, and the plain model."""
    plain, theirs = host(name), host(name)
    patterns = suffixes(TARGETS[name])
    ours = inject(copy.deepcopy(plain), {patterns: lambda b: LoRA(b, 3, alpha=5)}, name="one")
    ours = inject(ours, {patterns: lambda b: LoRA(b, 3, alpha=2)}, name="two")
    shared = dict(r=3, target_modules=TARGETS[name], fan_in_fan_out=name == "gpt2")
    config = [peft.LoraConfig(lora_alpha=alpha, **shared) for alpha in (5, 2)]
    theirs = peft.get_peft_model(theirs, config[0], adapter_name="one")
    theirs.add_adapter("two", config[1])
    for i, set_ in enumerate(("one", "two")):
        stir([t for _, a in adapters(ours, set_) for t in (a.A, a.B)], seed=i)
        for site, a in adapters(ours, set_):
            layer = theirs.base_model.model.get_submodule(site)
            if isinstance(a.base, nn.Embedding):
                pairs = [(layer.lora_embedding_A[set_], a.A), (layer.lora_embedding_B[set_], a.B)]
            else:
                pairs = [(layer.lora_A[set_].weight, a.A), (layer.lora_B[set_].weight, a.B)]
            with torch.no_grad():
                for t, mine in pairs:
                    t.copy_(mine)
    return plain, [from_model(ours, "one"), from_model(ours, "two")], theirs.eval()


KINDS = {
    "cat": (cat, {}),
    "svd": (by_svd, {}),
    "linear": (linear, {}),
    "ties": (partial(linear, rule=partial(ties, density=0.5)), dict(density=0.5)),
    "ties_svd": (partial(by_svd, rule=partial(ties, density=0.5)), dict(density=0.5)),
    "magnitude_prune_svd": (partial(by_svd, rule=partial(magnitude_prune, density=0.5)), dict(density=0.5)),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_combined_as_in_peft(name, kind):
    combined, settings = KINDS[kind]
    plain, sets, theirs = loras(name)
    base = plain(**batch(name)).logits
    ours = inject_loras(plain, combined(sets, WEIGHTS)).eval()
    theirs.add_weighted_adapter(
        ["one", "two"], WEIGHTS, "mix", combination_type=kind, svd_full_matrices=False, **settings
    )
    theirs.set_adapter("mix")
    with torch.no_grad():
        y, z = ours(**batch(name)).logits, theirs(**batch(name)).logits
    assert (y - z).abs().max() <= 1e-5 and (y - base).abs().max() > 1e-2
    record("Joined LoRAs", PEFT, (y - z).abs().max().item())


def product(e):
    return e.scale * e.B @ e.A


def test_only_cat_is_the_sum_of_the_changes_and_linear_has_cross_terms():
    _, sets, _ = loras("llama")
    for site in sets[0]:
        wanted = sum(w * product(s[site]) for w, s in zip(WEIGHTS, sets, strict=True))
        assert (product(cat(sets, WEIGHTS)[site]) - wanted).abs().max() < 1e-5
        assert (product(by_svd(sets, WEIGHTS, rank=6)[site]) - wanted).abs().max() < 1e-5
        assert (product(linear(sets, WEIGHTS)[site]) - wanted).abs().max() > 0.1


def test_a_combined_set_is_named_switched_and_trains_on():
    plain, sets, _ = loras("llama")
    base = plain(**batch("llama")).logits
    model = inject_loras(inject_loras(plain, sets[0], "a"), cat(sets, [0.5, 0.5]), "both")
    both = model(**batch("llama")).logits
    assert all(p.requires_grad for p in trained(model).values())
    assert not torch.equal(switch(model, "a")(**batch("llama")).logits, both)
    assert torch.equal(switch(model, None)(**batch("llama")).logits, base)


def test_sets_of_different_sites_and_ranks():
    _, sets, _ = loras("llama")
    first, *_ = sets[0]
    part = {first: Expert(torch.randn(2, sets[0][first].A.shape[1]), torch.randn(sets[0][first].B.shape[0], 2), 1.0)}
    joined = cat([sets[0], part], [1, 1])
    assert joined.keys() == sets[0].keys() and len(joined[first].A) == 5
    with pytest.raises(ValueError, match="different ranks"):
        linear([sets[0], part], [1, 1])
    assert len(by_svd([sets[0], part], [1, 1])[first].A) == 3
    with pytest.raises(ValueError, match="give each change one weight"):
        cat(sets, [1.0])
    with pytest.raises(ValueError, match="rank 1 to"):
        by_svd(sets, WEIGHTS, rank=99)


def states(n=3):
    g = torch.Generator().manual_seed(4)
    return [{"a": torch.randn(3, 2, generator=g), "b.c": 9 * torch.randn(4, generator=g)} for _ in range(n)]


def test_task_vectors_of_states():
    start, a, b = states()
    change = combine([task_vector(a, start), task_vector(b, start)], [1.0, -0.5])
    there = add(start, change, 2.0)
    assert torch.allclose(there["a"], start["a"] + 2 * ((a["a"] - start["a"]) - 0.5 * (b["a"] - start["a"])))
    assert all(torch.allclose(add(start, task_vector(a, start))[k], a[k]) for k in a)
    with pytest.raises(ValueError, match="differ in names or shapes of 1 tensors: a"):
        task_vector({**a, "a": torch.zeros(2, 3)}, start)
    with pytest.raises(ValueError, match="lacks: d"):
        add(start, {"d": torch.zeros(1)})
    with pytest.raises(ValueError, match="0 weights for 0 changes"):
        combine([], [])


def test_the_papers_trim_the_whole_change_and_peft_each_tensor():
    rule = partial(magnitude_prune, density=0.4)
    sets = states(1)
    whole, each = combine(sets, [1.0], rule), combine(sets, [1.0], rule, whole=False)
    count = [sum(int((t != 0).sum()) for t in c.values()) for c in (whole, each)]
    assert count == [4, 2 + 1]
    assert int((whole["b.c"] != 0).sum()) > int((each["b.c"] != 0).sum()), "large values are in b.c"


def test_dare_keeps_the_mean_and_pruning_the_largest():
    t = torch.randn(200, 200)
    kept = drop(t, 0.25)
    assert abs((kept != 0).float().mean() - 0.25) < 0.01 and torch.allclose(kept[kept != 0], 4 * t[kept != 0])
    top = largest(t, 0.1)
    assert (top != 0).sum() == 4000 and t[top == 0].abs().max() <= t[top != 0].abs().min()
    for density in (0.0, 1.5):
        with pytest.raises(ValueError, match="share of values to keep"):
            largest(t, density)
    with pytest.raises(ValueError, match="'total' or 'frequency'"):
        agreeing_mean(t[None], torch.ones(1), "max")


def test_soups():
    a, b, c = states()
    assert torch.allclose(soup([a, b, c])["a"], (a["a"] + b["a"] + c["a"]) / 3)
    goal = soup([a, c])
    found, chosen = greedy_soup([a, b, c], lambda s: -sum((s[k] - goal[k]).square().sum().item() for k in s))
    assert sorted(chosen) == [0, 2] and torch.allclose(found["a"], goal["a"])
    assert torch.equal(wise(a, b, 0.0)["a"], a["a"]) and torch.allclose(wise(a, b, 1.0)["a"], b["a"])
    with pytest.raises(ValueError, match="from 0 .before. to 1"):
        wise(a, b, 1.5)
    with pytest.raises(ValueError, match="at least one state"):
        greedy_soup([], len)


def test_a_lora_soup_learns_the_weights_of_its_parts():
    """It starts as cat does with weights 1/n, and finds the mixture that made the labels."""
    plain, sets, _ = loras("llama")
    sites = suffixes(TARGETS["llama"])
    with torch.no_grad():
        goal = inject_loras(copy.deepcopy(plain), cat(sets, [0.9, 0.2]))(**batch("llama")).logits
        start = inject_loras(copy.deepcopy(plain), cat(sets, [0.5, 0.5]))(**batch("llama")).logits
    model = inject(plain, lora_soup(plain, sites, sets))
    assert (model(**batch("llama")).logits - start).abs().max() < 1e-5
    assert sum(p.numel() for p in trained(model).values()) == 2 * len(sets[0])
    optimizer = torch.optim.Adam(trained(model).values(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(**batch("llama")).logits - goal).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * (start - goal).square().mean()
    assert torch.allclose(merge(model)(**batch("llama")).logits, model(**batch("llama")).logits, atol=1e-5)
    other = host("llama")
    with pytest.raises(ValueError, match="give `shared` and `inject` the same model"):
        inject(other, lora_soup(host("llama"), sites, sets))
    with pytest.raises(ValueError, match="at least one expert"):
        LoRASoup(nn.Linear(3, 3), [])


def test_an_intruder_is_a_direction_that_the_weight_lacks():
    """W has only five directions; a change along a sixth intrudes, one along the first does not."""
    Q = torch.linalg.qr(torch.randn(12, 12))[0]
    W = (Q[:, :5] * torch.tensor([5.0, 4, 3, 2, 1])) @ torch.linalg.qr(torch.randn(9, 9))[0][:5]
    W = nn.functional.pad(W, (0, 0, 0, 0))
    v = torch.randn(9)
    along = 0.1 * torch.outer(Q[:, 0], torch.linalg.svd(W)[2][0])
    assert not len(intruders(W, along, top=5))
    new = torch.outer((Q[:, 0] + Q[:, 1] + Q[:, 2] + Q[:, 3] + 4 * Q[:, 8]) / 20**0.5, 40 * v / v.norm())
    small = shrunk(W, new, keep=0.0, top=1, below=0.6)
    assert torch.linalg.matrix_norm(W + small, 2) < 6 < torch.linalg.matrix_norm(W + new, 2)
    for wrong in (dict(top=0), dict(below=0.0)):
        with pytest.raises(ValueError, match="top must be"):
            intruders(W, new, **wrong)


@pytest.mark.parametrize("below", [0.5, 0.9])
def test_intruders_are_reduced_as_in_peft(below):
    plain, sets, theirs = loras("llama")
    theirs.set_adapter("one")
    peft_reduce = pytest.importorskip("peft.tuners.lora.intruders").reduce_intruder_dimension
    said = []
    peft_reduce(theirs, "one", "less", threshold_epsilon=below, logging_sink=said.append)
    assert any("Intruders: " in line for line in said)
    ours = inject_loras(plain, reduce_intruders(inject_loras(copy.deepcopy(plain), sets[0]), below=below))
    with torch.no_grad():
        y, z = ours(**batch("llama")).logits, theirs(**batch("llama")).logits
    assert (y - z).abs().max() <= 1e-5
    record("Intruder dimensions", PEFT, (y - z).abs().max().item())
    with pytest.raises(ValueError, match="share of an intruder"):
        reduce_intruders(ours, keep=2.0)
    with pytest.raises(ValueError, match="is a LoRA"):
        reduce_intruders(host("bert"))


@pytest.mark.parametrize("rank", [4, 0.9])
def test_conversion_is_peft_s(rank):
    """A LoHa of rank 2 is a change of rank 4 at most: rank 4 converts it without loss."""
    sites, plain = ["q_proj", "down_proj"], host("llama")
    ours = inject(copy.deepcopy(plain), {suffixes(sites): lambda b: LoHa(b, 2, alpha=3)})
    stir(trained(ours).values())
    theirs = peft.get_peft_model(copy.deepcopy(plain), peft.LoHaConfig(r=2, alpha=3, target_modules=sites))
    for site, a in adapters(ours):
        layer = theirs.base_model.model.get_submodule(site)
        with torch.no_grad():
            change = merge_change(a)
            layer.get_delta_weight = lambda name, change=change: change  # the product itself, not its parametrisation
    _, state = peft.convert_to_lora(theirs, rank=rank)
    mine = to_lora(ours, rank)
    worst = 0.0
    for site, e in mine.items():
        A, B = (state[f"base_model.model.{site}.lora_{k}.weight"] for k in "AB")
        assert A.shape == e.A.shape
        worst = max(worst, (B @ A - e.B @ e.A).abs().max().item())
    assert worst <= 1e-5
    record("Conversion to LoRA", PEFT, worst)
    if rank == 4:
        with torch.no_grad():
            y = inject_loras(plain, mine)(**batch("llama")).logits
        assert (y - ours(**batch("llama")).logits).abs().max() < 1e-5


def merge_change(a):
    return a.merged().weight - a.base.weight


def test_conversion_of_other_methods():
    """A rotation multiplies: its change has full rank, and the energy says what a cut keeps. Heads are left out."""
    targets = {r".*\.query": lambda b: OFT(b, block_size=4), "classifier": Replaced}
    model = inject(host("bert"), targets)
    stir(trained(model).values(), std=0.1)
    head = adapter_state(model)["classifier.trained.weight"]
    full_rank = to_lora(model, 24)
    assert "classifier" not in full_rank and all(".query" in site for site in full_rank)
    for site, a in adapters(model):
        if site in full_rank:
            assert (product(full_rank[site]) - merge_change(a)).abs().max() < 1e-5
            change, r = merge_change(a), rank_for(merge_change(a), 0.8)
            lost = (change - product(low_rank(change, r))).square().sum() / change.square().sum()
            more = (change - product(low_rank(change, r - 1))).square().sum() / change.square().sum()
            assert lost <= 0.2 < more
    assert torch.equal(adapter_state(model)["classifier.trained.weight"], head)


def test_a_layer_trained_in_full_is_converted_but_not_a_head_or_a_norm():
    model = inject(host("llama"), {r".*\.(q_proj|norm)|model\.norm|lm_head": Replaced})
    stir(trained(model).values(), std=0.1)
    found = to_lora(model, 32)
    assert {site.split(".")[-1] for site in found} == {"q_proj"}
    for site, a in adapters(model):
        if site in found:
            assert (product(found[site]) - merge_change(a)).abs().max() < 1e-5


def test_conversion_says_what_it_cannot_convert():
    from peft_from_scratch import BitFit

    with pytest.raises(ValueError, match="share of the energy"):
        to_lora(host("bert"), 1.5)
    with pytest.raises(ValueError, match="no adapter to convert"):
        to_lora(host("bert"), 2)
    biased = inject(host("bert"), {r".*\.query": BitFit})
    stir(trained(biased).values())
    with pytest.raises(ValueError, match="changes the bias"):
        to_lora(biased, 2)
