"""AdaLoRA's and AdaMSS's allocators stopped in the middle and gone on with: the same numbers as without a stop."""

import pytest
import torch
from hosts import batch, host
from safetensors.torch import load, save

from peft_from_scratch import adapter_state, adapters, inject, load_adapter, save_adapter, trained
from peft_from_scratch.methods.lowrank.adalora import AdaLoRA, RankAllocator
from peft_from_scratch.methods.lowrank.adamss import AdaMSS, SubspaceAllocator
from peft_from_scratch.methods.lowrank.importance import Importance

SITES = r".*\.(query|value)"
STEPS = 16


def made(kind, sites=SITES):
    """A model, its optimiser, and an allocator whose budget falls from the third step to the third from last."""
    model = host("bert")
    model.classifier.weight.data *= 20
    torch.manual_seed(5)
    factory = {"adalora": lambda b: AdaLoRA(b, 4, 20), "adamss": lambda b: AdaMSS(b, 9, 3)}[kind]
    model = inject(model, {sites: factory}).eval()
    optimizer = torch.optim.AdamW(trained(model).values(), lr=1e-2)
    if kind == "adalora":
        return model, optimizer, RankAllocator(model, 2, STEPS, warmup=2, final=3, every=3)
    return model, optimizer, SubspaceAllocator(model, 4, start=2, end=13, every=3)


def train(run, steps):
    model, optimizer, allocator = run
    for t in steps:
        model(**batch("bert", seed=t)).loss.backward()
        optimizer.step()
        allocator.step()
        optimizer.zero_grad()


def choices(run):
    """What the allocator has chosen."""
    model, _, allocator = run
    if isinstance(allocator, RankAllocator):
        return [kept.flatten().tolist() for kept in allocator.kept.values()]
    return [p.requires_grad for a in adapters(model) for p in a[1].parameters()]


@pytest.mark.parametrize("late", [False, True])
def test_importance_is_the_smoothed_size_times_its_smoothed_change(late):
    """Against the equations on plain numbers; `late`: the change is from the mean of the step before."""
    w = torch.nn.Parameter(torch.tensor(2.0))
    importance = Importance({"w": w}, (0.8, 0.6), late)
    mean = change = 0.0
    for g in (3.0, -1.0, 0.5):
        w.grad = torch.tensor(g)
        importance.measure()
        old, mean = mean, 0.8 * mean + 0.2 * abs(2 * g)
        change = 0.6 * change + 0.4 * abs(abs(2 * g) - (old if late else mean))
        assert importance.of(w).item() == pytest.approx(mean * change, rel=1e-6)


@pytest.mark.parametrize("stop", [1, 4, 6, 7, 13, 15])
@pytest.mark.parametrize("kind", ["adalora", "adamss"])
def test_a_resumed_budget_is_the_uninterrupted_one(kind, stop, tmp_path):
    whole = made(kind)
    start = choices(whole)
    train(whole, range(STEPS))
    first = made(kind)
    train(first, range(stop))
    save_adapter(first[0], tmp_path / "a.safetensors")
    state, moments = save(first[2].state_dict()), first[1].state_dict()

    again = made(kind)
    load_adapter(again[0], tmp_path / "a.safetensors")
    again[1].load_state_dict(moments)
    again[2].load_state_dict(load(state))
    train(again, range(stop, STEPS))
    assert choices(again) == choices(whole) != start
    for key, t in adapter_state(whole[0]).items():
        assert torch.equal(adapter_state(again[0])[key], t), key


@pytest.mark.parametrize("kind", ["adalora", "adamss"])
def test_without_the_state_the_training_differs(kind, tmp_path):
    """So that the test above could fail."""
    whole, first, again = made(kind), made(kind), made(kind)
    train(whole, range(STEPS))
    train(first, range(7))
    load_adapter(again[0], save_adapter(first[0], tmp_path / "a.safetensors"))
    again[1].load_state_dict(first[1].state_dict())
    train(again, range(7, STEPS))
    assert any(not torch.equal(adapter_state(again[0])[k], t) for k, t in adapter_state(whole[0]).items())


@pytest.mark.parametrize("kind", ["adalora", "adamss"])
def test_the_state_is_a_copy(kind):
    run = made(kind)
    train(run, range(5))
    state = run[2].state_dict()
    before = {k: t.clone() for k, t in state.items()}
    train(run, range(5, STEPS))
    assert all(torch.equal(before[k], t) for k, t in state.items())
    assert not all(torch.equal(before[k], t) for k, t in run[2].state_dict().items() if k in before)


@pytest.mark.parametrize("kind", ["adalora", "adamss"])
def test_a_step_after_zero_grad_is_an_error(kind):
    run = made(kind)
    train(run, range(5))
    with pytest.raises(ValueError, match="before zero_grad"):
        run[2].step()


def test_a_state_of_other_adapters_is_refused_before_anything_changes():
    runs = {kind: made(kind) for kind in ("adalora", "adamss")}
    for run in runs.values():
        train(run, range(5))
    wider = made("adalora", r".*\.(query|value|key)")
    for mine, state in [
        (runs["adalora"][2], runs["adamss"][2].state_dict()),
        (runs["adamss"][2], runs["adalora"][2].state_dict()),
        (wider[2], runs["adalora"][2].state_dict()),
        (runs["adalora"][2], wider[2].state_dict()),
        (runs["adalora"][2], {}),
        (runs["adalora"][2], runs["adalora"][2].state_dict() | {"t": torch.zeros(2)}),
    ]:
        before = mine.state_dict()
        with pytest.raises(ValueError, match="this state is of other adapters"):
            mine.load_state_dict(state)
        after = mine.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(before[k], t) for k, t in after.items())
