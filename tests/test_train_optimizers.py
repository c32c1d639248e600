"""Every optimiser of optim/ under `fit`: it learns by its schedule, goes on from a checkpoint bit for bit, and where it
cannot do what is asked it says so."""

import math

import pytest
import torch
from hosts import batch, host
from torch import nn

from peft_from_scratch import LoRA, full, inject, trained
from peft_from_scratch.optim.adalomo import AdaLomo
from peft_from_scratch.optim.adam import groups
from peft_from_scratch.optim.apollo import Apollo
from peft_from_scratch.optim.badam import BAdam
from peft_from_scratch.optim.galore import GaLore
from peft_from_scratch.optim.in_backward import InBackward
from peft_from_scratch.optim.lisa import LISA
from peft_from_scratch.optim.lomo import lomo
from peft_from_scratch.optim.lora_fa import lora_fa
from peft_from_scratch.optim.lora_plus import lora_plus
from peft_from_scratch.optim.riemannian import riemannian
from peft_from_scratch.quant import Paged
from peft_from_scratch.train import CheckpointError, TrainingDiverged, fit

LLAMA = r"model\.layers\.\d+"
BLOCKS = rf"{LLAMA}|model\.embed_tokens|lm_head"


def lora():
    return inject(host("llama"), {r".*\.(q_proj|v_proj|down_proj)": lambda m: LoRA(m, 2, dropout=0.1)})


def everything():
    return full(host("llama"))


def adamw(model, lr):
    return torch.optim.AdamW(trained(model).values(), lr)


MAKE = {  # model, optimizer=, lr
    "LoRA+": (lora, lora_plus, 1e-2),
    "LoRA-FA": (lora, lora_fa, 3e-2),
    "Riemannian": (lora, lambda m, lr: riemannian(m, adamw(m, lr)), 3e-2),
    "GaLore": (everything, lambda m, lr: GaLore(groups(m, rank=4), lr, every=3), 1e-2),
    "GaLore in backward": (
        everything,
        lambda m, lr: InBackward(groups(m, rank=4), lambda g: GaLore(g, lr, every=3)),
        1e-2,
    ),
    "APOLLO": (everything, lambda m, lr: Apollo(groups(m, rank=4), lr, every=3), 3e-2),
    "LISA": (everything, lambda m, lr: LISA(m, LLAMA, adamw(m, lr), active=1, every=3, seed=1), 1e-2),
    "BAdam": (everything, lambda m, lr: BAdam(m, BLOCKS, adamw(m, lr), every=3), 1e-2),
    "LOMO": (everything, lomo, 3e-1),
    "AdaLomo": (everything, lambda m, lr: AdaLomo(trained(m).values(), lr), 5e-2),
    "AdaLomo in backward": (
        everything,
        lambda m, lr: InBackward(trained(m).values(), lambda g: AdaLomo(g, lr)),
        5e-2,
    ),
    "Paged": (lora, lambda m, lr: Paged(trained(m).values(), lr=lr), 3e-2),
    "LISA of Paged": (everything, lambda m, lr: LISA(m, LLAMA, Paged(trained(m).values(), lr=lr), 1, 3), 1e-2),
    "momentum": (lora, lambda m, lr: torch.optim.SGD(trained(m).values(), lr, momentum=0.9), 1e-1),
}
IN_BACKWARD = ("GaLore in backward", "LOMO", "AdaLomo in backward")
every_kind = pytest.mark.parametrize("kind", MAKE)


def data(epoch):
    order = torch.randperm(4, generator=torch.Generator().manual_seed(epoch))
    return [batch("llama", rows=2, seed=int(i)) for i in order]


def run(kind, model=None, **more):
    make, optimizer, lr = MAKE[kind]
    model = make() if model is None else model
    return model, fit(model, data, **{"optimizer": optimizer, "lr": lr, "epochs": 2, "progress": False, **more})


def tensors(model):
    return {k: t.detach().clone() for k, t in model.state_dict().items()}


def same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a), [k for k in a if not torch.equal(a[k], b[k])]


class Stop(Exception):
    pass


def stop_at(step):
    def on_step(now, loss):
        if now == step:
            raise Stop

    return on_step


@every_kind
def test_it_learns_and_leaves_the_model_as_it_found_it(kind):
    model, history = run(kind, epochs=6)
    assert sum(history.loss[-4:]) < sum(history.loss[:4]) - 0.1, history.loss
    assert all(n > 0 and math.isfinite(n) for n in history.grad_norm)
    if MAKE[kind][0] is everything:
        assert all(p.requires_grad for p in model.parameters()), "nothing is left asleep"
    model.zero_grad()
    before = tensors(model)
    model(**batch("llama")).loss.backward()
    same(tensors(model), before)  # no hook is left that would update in the backward pass
    assert all(p.grad is not None for p in trained(model).values())


@every_kind
@pytest.mark.parametrize("stop", [4, 6])
def test_resumed_is_bit_equal_to_never_stopped(kind, stop, tmp_path):
    """Blocks change after steps 3 and 6, and so do GaLore's and APOLLO's projections: stopped in a turn and there."""
    whole, history = run(kind)
    first = MAKE[kind][0]()
    with pytest.raises(Stop):
        run(kind, first, checkpoint=tmp_path, every=1, on_step=stop_at(stop))
    assert all(p.requires_grad for p in first.parameters()) or MAKE[kind][0] is lora
    torch.manual_seed(123)  # another process
    second, steps = MAKE[kind][0](), []
    _, resumed = run(kind, second, checkpoint=tmp_path, every=1, on_step=lambda step, loss: steps.append(step))
    assert steps[0] == stop + 1
    same(tensors(second), tensors(whole))
    assert (resumed.loss, resumed.lr, resumed.grad_norm) == (history.loss, history.lr, history.grad_norm)


@pytest.mark.parametrize("kind", [k for k in MAKE if k not in IN_BACKWARD])
def test_two_batches_a_step_are_one_of_twice_the_rows(kind):
    def halves(epoch):
        return [{k: t[i : i + 2] for k, t in b.items()} for b in wholes(epoch) for i in (0, 2)]

    def wholes(epoch):
        return [batch("llama", rows=4, seed=epoch * 2 + i) for i in range(2)]

    def go(batches, **more):
        model = MAKE[kind][0]()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        lr = MAKE[kind][2] / 30  # Adam's first steps have the gradient's sign, also where it is rounding
        return model, fit(model, batches, optimizer=MAKE[kind][1], lr=lr, epochs=2, progress=False, **more)

    (one, a), (two, b) = go(wholes), go(halves, accumulate=2)
    assert a.steps == b.steps == 4 and a.loss == pytest.approx(b.loss, rel=1e-5)
    assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-3)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert (p - q).abs().max() < 1e-3


def test_the_last_step_of_an_epoch_takes_what_is_left(tmp_path):
    """5 batches, 2 a step: 3 steps an epoch; the mean is over those that there are; and it resumes."""

    def go(**more):
        batches = [batch("llama", rows=2, seed=i) for i in range(5)]
        model = lora()
        return model, fit(model, batches, lr=1e-2, epochs=2, accumulate=2, progress=False, **more)

    whole, history = go()
    assert history.steps == 6
    with pytest.raises(Stop):
        go(checkpoint=tmp_path, every=1, on_step=stop_at(4))
    again, resumed = go(checkpoint=tmp_path, every=1)
    assert resumed.loss == history.loss
    same(tensors(again), tensors(whole))
    with pytest.raises(CheckpointError, match="accumulate was 2, is 1"):
        fit(
            lora(), [batch("llama", rows=2, seed=i) for i in range(5)], lr=1e-2, epochs=2, checkpoint=tmp_path,
            progress=False,
        )  # fmt: skip


def test_rates_keep_their_ratio_over_the_schedule():
    seen, made = [], []

    def factory(model, lr):
        made.append(lora_plus(model, lr, ratio=16))
        return made[0]

    model = lora()
    history = fit(
        model, data, lr=1e-3, epochs=2, optimizer=factory, progress=False,
        on_step=lambda *_: seen.append([g["lr"] for g in made[0].param_groups]),
    )  # fmt: skip
    assert [a for a, _ in seen] == history.lr and len(set(history.lr)) > 5
    assert all(b == pytest.approx(16 * a) for a, b in seen)


def test_lora_plus_orders_its_parameters_by_the_model():
    """A checkpoint's states are found by position in torch's own format, also in another process."""
    model = lora()
    names = {p: k for k, p in trained(model).items()}
    order = [names[p] for g in lora_plus(model, 1e-3).param_groups for p in g["params"]]
    assert order == [k for k in names.values() if k.endswith(".A")] + [k for k in names.values() if k.endswith(".B")]


@pytest.mark.parametrize("clip", [None, 0.1])
def test_lomo_is_sgd_under_fit(clip):
    sgd = lambda m, lr: torch.optim.SGD(trained(m).values(), lr)  # noqa: E731
    (a, mine), (b, other) = run("LOMO", clip=clip), run("LOMO", optimizer=sgd, clip=clip)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)
    assert mine.loss == pytest.approx(other.loss, rel=1e-5)
    assert mine.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


@pytest.mark.parametrize("kind", IN_BACKWARD)
def test_what_an_update_in_the_backward_pass_cannot_do(kind):
    model = everything()
    before = tensors(model)
    with pytest.raises(ValueError, match="accumulate=2 needs all gradients.*larger batches"):
        run(kind, model, accumulate=2)
    with pytest.raises(ValueError, match="amp='fp16' needs all gradients.*'bf16'"):
        run(kind, model, amp="fp16")
    model(**batch("llama")).loss.backward()
    same(tensors(model), before)
    assert model.lm_head.weight.grad is not None, "the hooks are gone"
    with pytest.raises(ValueError, match=r"call step\(loss\)"):
        MAKE[kind][1](model, 1e-3).step()


@pytest.mark.parametrize("kind", [k for k in MAKE if k not in IN_BACKWARD and k != "LISA of Paged"])
def test_sixteen_bits(kind, tmp_path):
    """The scaler of fp16 sees every gradient; and what it kept goes on."""
    whole, history = run(kind, amp="fp16")
    assert all(map(math.isfinite, history.loss))
    with pytest.raises(Stop):
        run(kind, amp="fp16", checkpoint=tmp_path, every=2, on_step=stop_at(7))
    second, _ = run(kind, amp="fp16", checkpoint=tmp_path, every=2)
    same(tensors(second), tensors(whole))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("GaLore", "AdaLomo", r"optimizer was GaLore\(.*rank=4.*, is AdaLomo\("),
        ("LISA", "BAdam", r"optimizer was LISA\(every=3, active=1, seed=1\) of AdamW\(.*, is BAdam\(every=3, order="),
        ("GaLore in backward", "GaLore", r"was InBackward of GaLore\(.*; GaLore\(.*, is GaLore\("),
    ],
)
def test_a_checkpoint_of_another_optimiser_is_refused(first, second, words, tmp_path):
    run(first, checkpoint=tmp_path, lr=1e-2)
    with pytest.raises(CheckpointError, match=words):
        run(second, checkpoint=tmp_path, lr=1e-2)


def test_a_setting_inside_a_hook_is_seen(tmp_path):
    run("Riemannian", checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="damping=0.01.*damping=0.1"):
        run("Riemannian", optimizer=lambda m, lr: riemannian(m, adamw(m, lr), 0.1), checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("optimizer", "more", "words"),
    [
        (torch.optim.SGD, {}, r"must be a function \(model, lr\).*lambda model, lr"),
        (lambda model, lr: None, {}, "returned NoneType"),
        (adamw, {"weight_decay": 0.1}, "give it to the optimizer"),
        (adamw, {"accumulate": 0}, "accumulate=0 must all be at least 1"),
    ],
)
def test_bad_arguments(optimizer, more, words):
    with pytest.raises(ValueError, match=words):
        fit(lora(), data, lr=1e-3, optimizer=optimizer, progress=False, **more)


def steep(model, b):
    return (b["x"] @ model.weight.T).sum().sqrt()


@pytest.mark.parametrize(
    ("clip", "words", "kept"), [(None, "spoilt.*clip=1.0", False), (1.0, "before this step", True)]
)
def test_divergence_in_the_backward_pass(clip, words, kept):
    model = nn.Linear(3, 1, bias=False)
    before = tensors(model)
    with pytest.raises(TrainingDiverged, match=f"gradient norm is nan at step 1.*{words}"):
        fit(model, [{"x": torch.zeros(2, 3)}], lr=1, optimizer=lomo, clip=clip, loss_fn=steep, progress=False)
    assert torch.equal(model.weight, before["weight"]) is kept


def test_nothing_reached_in_the_backward_pass():
    other = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="none of the 2 trained parameters received a gradient"):
        fit(nn.Linear(3, 1), [{}], lr=1, optimizer=lomo, loss_fn=lambda m, b: other.sum(), progress=False)
