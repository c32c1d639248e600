"""AdaLoRA's and AdaMSS's budgets over whole trainings, step by step beside Hugging Face peft 0.21.2's."""

import sys
from types import ModuleType

import pytest
import torch
from hosts import batch, host
from peft_twin import Twin, peft
from test_relatives1_peft import ADALORA, adamss_pairs, thirds

from peft_from_scratch import adapters, inject, trained
from peft_from_scratch.methods.lowrank.adalora import AdaLoRA, RankAllocator, penalty
from peft_from_scratch.methods.lowrank.adamss import AdaMSS, SubspaceAllocator

TARGETS = ["query", "value"]


def louder():
    model = host("bert")
    model.classifier.weight.data *= 20
    return model


def optimizers(twin):
    theirs = [p for p in twin.theirs.parameters() if p.requires_grad]
    return [torch.optim.AdamW(ps, lr=1e-2) for ps in (list(trained(twin.ours).values()), theirs)]


@pytest.mark.parametrize("schedule", [(20, 3, 4, 2), (15, 0, 0, 1), (12, 2, 5, 3)])
def test_adalora_over_a_whole_schedule(schedule):
    total, warmup, final, every = schedule
    config = peft.AdaLoraConfig(
        init_r=4, target_r=2, lora_alpha=20, total_step=total, tinit=warmup, tfinal=final, deltaT=every,
        orth_reg_weight=0.5, target_modules=TARGETS,
    )  # fmt: skip
    twin = Twin(louder(), TARGETS, lambda b: AdaLoRA(b, 4, 20), config, ADALORA)
    allocator = RankAllocator(twin.ours, 2, total, warmup, final, every)
    ours, theirs = optimizers(twin)
    seen = set()
    for t in range(total):
        given = batch("bert", seed=t)
        loss = twin.ours(**given).loss + 0.5 * penalty(twin.ours, released=True)
        other = twin.theirs.base_model(**given).loss  # its own call, without a task type, leaves the penalty out
        assert abs(loss.item() - other.item()) <= 1e-5
        loss.backward(), other.backward()
        ours.step(), theirs.step()
        allocator.step(), twin.theirs.base_model.update_and_allocate(t)
        ours.zero_grad(), theirs.zero_grad()
        for mine, their in twin.pairs():
            assert (mine - their).abs().max() <= 1e-5, t
        pattern = config.rank_pattern or {}
        for site, kept in allocator.kept.items():
            theirs_kept = pattern.get(f"{site}.lora_E.default", [True] * 4)
            assert kept.flatten().tolist() == theirs_kept, t
        seen.add(sum(int(k.sum()) for k in allocator.kept.values()))
    assert len(seen) > 2 and min(seen) <= 9 and max(seen) == 16, seen


def test_budget_is_the_cube_of_the_time_left():
    model = inject(host("bert"), {r".*\.(query|value)": lambda b: AdaLoRA(b, 4)})
    allocator = RankAllocator(model, 2, steps=20, warmup=4, final=6)
    assert [allocator.budget(t) for t in (0, 4, 5, 9, 14, 19)] == [16, 16, 13, 9, 8, 8]


def test_a_pruned_triplet_may_come_back_until_the_end():
    """Λ is set to zero, not frozen: its gradient moves it again, and the next choice is free."""
    model = inject(louder(), {r".*\.(query|value)": lambda b: AdaLoRA(b, 4, 20)}).eval()
    allocator = RankAllocator(model, 2, steps=30, every=3)
    optimizer = torch.optim.AdamW(trained(model).values(), lr=5e-2)
    back = False
    before = {}
    for t in range(29):
        model(**batch("bert", seed=t)).loss.backward()
        optimizer.step()
        allocator.step()
        optimizer.zero_grad()
        if before:
            back |= any((kept & ~before[site]).any() for site, kept in allocator.kept.items())
        before = dict(allocator.kept)
    assert back


def test_penalty_is_the_papers_and_the_released_one_peft_adds():
    model = inject(host("bert"), {r".*\.(query|value)": lambda b: AdaLoRA(b, 3)})
    norms = []
    for _, a in adapters(model):
        norms += [(a.P.T @ a.P - torch.eye(3)).norm(), (a.Q @ a.Q.T - torch.eye(3)).norm()]
    norms = torch.stack(norms)
    assert torch.allclose(penalty(model), (norms**2).sum())
    assert torch.allclose(penalty(model, released=True), norms.mean())
    for _, a in adapters(model):
        a.P.data, a.Q.data = torch.eye(24, 3), torch.eye(3, 24)
    assert penalty(model) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(target_rank=2, steps=10, warmup=6, final=4), "leave none to prune"),
        (dict(target_rank=0, steps=10), "between 1 and"),
        (dict(target_rank=9, steps=10), "between 1 and"),
    ],
)
def test_impossible_schedules(settings, said):
    model = inject(host("bert"), {r".*\.query": lambda b: AdaLoRA(b, 4)})
    with pytest.raises(ValueError, match=said):
        RankAllocator(model, **settings)


def test_no_adalora():
    for call in (penalty, lambda m: RankAllocator(m, 1, 10)):
        with pytest.raises(ValueError, match="no AdaLoRA"):
            call(host("bert"))


class OneFewer(SubspaceAllocator):
    """As peft counts: the scores strictly above the n-th best stay."""

    def keep(self, n):
        scored = sum(all(p in self.smooth for p in pair) for pair in self.pairs)
        super().keep(n - 1 if n < scored else n)


def adamss_twin(monkeypatch, every):
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setattr("peft.tuners.adamss.layer.clustering_Z", lambda U, *_: (thirds(len(U)), 3))
    config = peft.AdamssConfig(
        r=9, num_subspaces=3, target_modules=TARGETS, use_asa=True, asa_target_subspaces=4,
        init_warmup=2, final_warmup=14, mask_interval=every,
    )  # fmt: skip
    factory = lambda b: AdaMSS(b, 9, 3, clusters=thirds(b.out_features))  # noqa: E731
    return Twin(louder(), TARGETS, factory, config, adamss_pairs)


def follow(twin, allocator):
    """Train both; the numbers of subspaces that still train, step by step."""
    ours, theirs = optimizers(twin)
    counts = []
    for t in range(16):
        given = batch("bert", seed=t)
        loss, other = twin.ours(**given).loss, twin.theirs(**given).loss
        loss.backward(), other.backward()
        ours.step(), theirs.step()
        allocator.step(), twin.theirs.base_model.update_and_allocate(t)
        ours.zero_grad(), theirs.zero_grad()
        sides = [[p.requires_grad for p, _ in twin.pairs()[1:]], [p.requires_grad for _, p in twin.pairs()[1:]]]
        apart = max((a - b).abs().max().item() for a, b in twin.pairs())
        counts.append((sum(p.requires_grad for p, _ in allocator.pairs), sides[0] == sides[1], apart))
    return counts


def test_adamss_over_a_whole_schedule(monkeypatch):
    twin = adamss_twin(monkeypatch, every=4)
    found = follow(twin, OneFewer(twin.ours, 4, start=2, end=14, every=4))
    assert all(same and apart <= 1e-5 for _, same, apart in found), found
    assert [n for n, _, _ in found][4::3] == [7, 7, 4, 4], "budgets 8 and 5 less one, then 4 of 4"


def test_peft_keeps_one_subspace_fewer_than_asked_for_and_we_do_not(monkeypatch):
    twin = adamss_twin(monkeypatch, every=6)
    counts = [n for n, _, _ in follow(twin, SubspaceAllocator(twin.ours, 4, start=2, end=14, every=6))]
    assert counts[5:7] == [12, 6] and counts[-1] == 4
    assert sum(p.requires_grad for p in twin.theirs.parameters()) == 2 * 3


def test_impossible_subspaces():
    model = inject(host("bert"), {r".*\.query": lambda b: AdaMSS(b, 9, 3)})
    for settings in (dict(target=0), dict(target=99), dict(target=3, start=9, end=9)):
        with pytest.raises(ValueError, match="target must lie between"):
            SubspaceAllocator(model, **settings)
