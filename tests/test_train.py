"""The loop: it learns, it stops where it must, and it goes on from a checkpoint as if nothing had happened."""

import json
import math
import os

import pytest
import torch
from hosts import batch, host
from torch import nn

from peft_from_scratch import LoRA, Replaced, full, head_only, inject, switch, trained
from peft_from_scratch.adapter import base_parameters
from peft_from_scratch.train import CheckpointError, TrainingDiverged, evaluate, fit, lm_loss, schedule

SITES = {r".*\.(query|value)": lambda m: LoRA(m, 2, dropout=0.2), "classifier": Replaced}


def lora_bert(seed=0):
    return inject(host("bert", seed), SITES)


def shuffled(epoch, n=5):
    """A new order in each epoch."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(100 + epoch))
    return [batch("bert", rows=4, seed=int(i)) for i in order]


def run(model, **more):
    return fit(model, shuffled, **{"lr": 1e-2, "epochs": 3, "progress": False, **more})


def tensors(model):
    return {k: t.clone() for k, t in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


class Stop(Exception):
    pass


def stop_at(step):
    def on_step(now, loss):
        if now == step:
            raise Stop

    return on_step


# The loop


@pytest.mark.parametrize(
    ("method", "lr"), [(lora_bert, 1e-2), (lambda: full(host("bert")), 1e-3), (lambda: head_only(host("bert")), 1e-1)]
)
def test_it_learns(method, lr):
    model, data = method(), [batch("bert", rows=8)]
    before = evaluate(model, data).log_loss
    history = fit(model, data, lr=lr, epochs=40, progress=False)
    assert history.steps == 40 and len(history.lr) == len(history.grad_norm) == 40 and history.seconds > 0
    assert evaluate(model, data).log_loss < before - 0.05


def test_frozen_weights_stay_and_trained_ones_move():
    model = lora_bert()
    frozen = {k: p.clone() for k, p in base_parameters(model).items()}
    start = {k: p.clone() for k, p in trained(model).items()}
    run(model)
    assert all(torch.equal(p, frozen[k]) for k, p in base_parameters(model).items())
    assert all(not torch.equal(p, start[k]) for k, p in trained(model).items())


def test_the_seed_decides_dropout_and_the_callers_random_state_is_left_alone():
    models = [lora_bert() for _ in range(3)]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    losses = [run(model, seed=seed).loss for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert torch.equal(torch.rand(3), expected)
    assert losses[0] == losses[1] != losses[2]


def test_train_mode_inside_and_the_mode_of_before_outside():
    model, seen = lora_bert().eval(), []
    model.bert.encoder.layer[1].train()
    run(model, epochs=1, on_step=lambda step, loss: seen.append(all(m.training for m in model.modules())))
    assert seen == [True] * 5
    assert not model.training and model.bert.encoder.layer[1].training


def test_the_step_is_adamw_with_clipping_and_this_schedule():
    """The same three steps by hand, with the learning rates written out."""
    torch.manual_seed(0)
    model, by_hand = nn.Linear(3, 2), nn.Linear(3, 2)
    by_hand.load_state_dict(model.state_dict())
    data = [{"x": torch.randn(4, 3), "y": torch.randn(4, 2)} for _ in range(3)]

    def loss_fn(model, b):
        return (100 * (model(b["x"]) - b["y"])).square().mean()

    history = fit(model, data, lr=0.1, warmup=0.3, weight_decay=0.01, clip=0.5, loss_fn=loss_fn, progress=False)
    optimizer = torch.optim.AdamW(by_hand.parameters(), weight_decay=0.01)
    for b, lr in zip(data, (0.1, 0.1, 0.05), strict=True):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss_fn(by_hand, b).backward()
        assert nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5) > 0.5
        optimizer.step()
    assert history.lr == [0.1, 0.1, 0.05]
    torch.testing.assert_close(model.weight, by_hand.weight)


def test_schedule():
    assert [schedule(s, 10, 0.2) for s in range(10)] == [0.5, 1.0] + [(10 - s) / 8 for s in range(2, 10)]
    assert schedule(0, 10, 0.0) == 1.0 and schedule(9, 10, 1.0) == 1.0


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_sixteen_bits(amp):
    model = lora_bert()
    history = run(model, amp=amp)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(map(math.isfinite, history.loss))


def test_a_batch_keeps_its_index():
    data = [batch("bert") | {"index": torch.arange(3)}]
    fit(lora_bert(), data, lr=1e-3, progress=False)
    assert "index" in data[0]


def test_progress_in_a_log_is_a_line_each_tenth(capsys):
    fit(lora_bert(), [batch("bert")], lr=1e-3, epochs=30, label="LoRA")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("LoRA: step 3/30  loss ") and lines[-1].endswith("  0 s left")


# Bad input


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"lr": 0}, "lr is 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"epochs": 0}, "at least 1"),
        ({"warmup": 1.5}, "share of all steps"),
        ({"amp": "int8"}, "choose 'auto'"),
    ],
)
def test_bad_arguments(more, words):
    with pytest.raises(ValueError, match=words):
        run(lora_bert(), **more)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(ValueError, match="no usable GPU"):
        run(lora_bert(), device="cuda")


def test_nothing_to_do():
    with pytest.raises(ValueError, match="no batches"):
        fit(lora_bert(), [], lr=1e-3)
    with pytest.raises(ValueError, match="nothing trains"):
        run(switch(lora_bert(), None))
    with pytest.raises(ValueError, match="epoch 1 has 2 batches, epoch 0 had 1"):
        fit(lora_bert(), lambda epoch: [batch("bert")] * (epoch + 1), lr=1e-3, epochs=2, progress=False)


def test_no_labels():
    with pytest.raises(ValueError, match="no 'labels'"):
        fit(lora_bert(), [{"input_ids": torch.ones(1, 3, dtype=torch.long)}], lr=1e-3)


def test_no_gradient_at_all():
    def loss_fn(model, b):
        with torch.no_grad():
            return model(**b).loss

    with pytest.raises(ValueError, match="nothing can be learned.*enable_input_require_grads"):
        run(lora_bert(), loss_fn=loss_fn)


def checkpointed(reentrant, sites=SITES):
    model = inject(host("bert"), sites)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.disable_input_require_grads()  # transformers 5.23 switches them on by itself, older ones do not
    return model


def test_a_cut_graph_is_named():
    """Re-entrant gradient checkpointing over frozen embeddings: the head learns, LoRA silently does not."""
    with pytest.warns() as caught:
        run(checkpointed(True), epochs=1)
    said = [str(w.message) for w in caught if "received no gradient" in str(w.message)]
    assert len(said) == 1 and said[0].startswith("8 of 10") and "use_reentrant" in said[0]


def test_the_remedies_for_a_cut_graph():
    run(checkpointed(False), epochs=1)
    model = checkpointed(True)
    model.enable_input_require_grads()
    run(model, epochs=1)


def test_all_of_it_cut():
    model = checkpointed(True, {r".*\.(query|value)": LoRA})
    with pytest.warns(UserWarning, match="None of the inputs"), pytest.raises(ValueError, match="use_reentrant"):
        run(model)


def test_divergence_leaves_the_last_good_weights(tmp_path):
    def data(epoch):
        return [{"x": torch.ones(2, 3) * (math.inf if i == 3 else 1)} for i in range(5)]

    def loss_fn(model, b):
        return model(b["x"]).square().mean()

    torch.manual_seed(0)
    model, steps = nn.Linear(3, 1), []
    more = dict(lr=1e-2, loss_fn=loss_fn, progress=False, checkpoint=tmp_path, every=2)
    with pytest.raises(TrainingDiverged, match=r"loss is nan at step 4 \(learning rate .*third"):
        fit(model, data, on_step=lambda step, loss: steps.append(tensors(model)), **more)
    assert len(steps) == 3
    assert_same(tensors(model), steps[-1])
    with pytest.raises(TrainingDiverged, match="step 4"):  # the checkpoint of step 2 is there and is used
        fit(model, data, on_step=lambda step, loss: steps.append(step), **more)
    assert steps[3:] == [3]


def test_a_gradient_that_is_not_a_number_moves_nothing():
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    before = tensors(model)
    with pytest.raises(TrainingDiverged, match="gradient norm is nan at step 1"):
        fit(model, [{"x": torch.zeros(2, 3)}], lr=1, loss_fn=lambda m, b: m(b["x"]).sqrt().sum(), progress=False)
    assert_same(tensors(model), before)


# Checkpoints


@pytest.mark.parametrize("stop", [1, 3, 5, 7, 10, 14])  # epochs end at 5 and 10
@pytest.mark.parametrize("method", [lora_bert, lambda: full(host("bert"))], ids=["lora", "full"])
def test_resumed_is_bit_equal_to_never_stopped(tmp_path, method, stop):
    whole = method()
    history = run(whole)

    first = method()
    with pytest.raises(Stop):
        run(first, checkpoint=tmp_path, every=2, on_step=stop_at(stop))
    torch.manual_seed(123)  # another process
    second, steps = method(), []
    resumed = run(second, checkpoint=tmp_path, every=2, on_step=lambda step, loss: steps.append(step))

    assert steps[0] == stop // 2 * 2 + 1
    assert_same(tensors(second), tensors(whole))
    assert (resumed.loss, resumed.lr, resumed.grad_norm) == (history.loss, history.lr, history.grad_norm)


def test_resumed_twice_and_then_complete(tmp_path):
    whole = lora_bert()
    history = run(whole)
    for stop in (4, 11):
        with pytest.raises(Stop):
            run(lora_bert(), checkpoint=tmp_path, every=1, on_step=stop_at(stop))
    last = lora_bert()
    assert run(last, checkpoint=tmp_path, every=1).loss == history.loss
    again, steps = lora_bert(), []
    assert run(again, checkpoint=tmp_path, every=1, on_step=lambda *_: steps.append(1)).loss == history.loss
    assert not steps
    assert_same(tensors(again), tensors(whole))


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_resumed_in_sixteen_bits(tmp_path, amp):
    whole = lora_bert()
    run(whole, amp=amp)
    with pytest.raises(Stop):
        run(lora_bert(), amp=amp, checkpoint=tmp_path, every=2, on_step=stop_at(7))
    second = lora_bert()
    run(second, amp=amp, checkpoint=tmp_path, every=2)
    assert_same(tensors(second), tensors(whole))


class Normed(nn.Module):
    """BatchNorm keeps running statistics, which no optimiser knows of."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, x):
        return self.out(self.norm(x))


def test_resumed_with_running_statistics(tmp_path):
    data = [{"x": torch.randn(4, 3)} for _ in range(6)]

    def go(stop=None, **more):
        torch.manual_seed(0)
        model = Normed()
        more = dict(lr=0.1, loss_fn=lambda m, b: m(b["x"]).square().mean(), progress=False, **more)
        fit(model, data, on_step=stop_at(stop), **more)
        return model

    whole = go()
    with pytest.raises(Stop):
        go(stop=3, checkpoint=tmp_path, every=1)
    assert_same(tensors(go(checkpoint=tmp_path, every=1)), tensors(whole))


def test_resumed_with_two_named_adapters(tmp_path):
    def two():
        return inject(lora_bert(), {"bert.pooler.dense": LoRA, r".*\.query": LoRA}, name="second")

    whole = two()
    run(whole)
    with pytest.raises(Stop):
        run(two(), checkpoint=tmp_path, every=2, on_step=stop_at(8))
    second = two()
    run(second, checkpoint=tmp_path, every=2)
    assert_same(tensors(second), tensors(whole))


def test_a_checkpoint_holds_no_frozen_weight_and_nothing_pickled(tmp_path):
    from safetensors import safe_open

    model = lora_bert()
    run(model, checkpoint=tmp_path)
    assert os.listdir(tmp_path) == ["training.safetensors"]
    with safe_open(tmp_path / "training.safetensors", "pt") as f:
        kept = {k: f.get_tensor(k) for k in f.keys()}
        assert len(json.loads(f.metadata()["history"])["loss"]) == 15
    numbers = sum(t.numel() for k, t in kept.items() if not k.startswith("random"))
    parameters = trained(model)
    assert numbers == sum(3 * p.numel() + 1 for p in parameters.values())


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        (lora_bert, {"lr": 2e-2}, r"lr was 0\.01, is 0\.02"),
        (lora_bert, {"epochs": 4}, r"epochs was 3, is 4; steps was 15, is 20"),
        (lora_bert, {"clip": None}, r"clip was 1\.0, is None"),
        (lambda: lora_bert(seed=1), {}, "frozen weights was"),
        (lambda: inject(host("bert"), SITES | {r".*\.(query|value)": lambda m: LoRA(m, 4)}), {}, "rank=2.*rank=4"),
        (lambda: inject(host("bert"), {r".*\.query": lambda m: LoRA(m, 2)}), {}, "is not there"),
        (lambda: full(host("bert")), {}, "not there"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, model, more, words):
    run(lora_bert(), checkpoint=tmp_path)
    kept = (tmp_path / "training.safetensors").read_bytes()
    other = model()
    before = tensors(other)
    with pytest.raises(CheckpointError, match=f"belongs to another run.*{words}.*another folder"):
        run(other, checkpoint=tmp_path, **more)
    assert_same(tensors(other), before)
    assert (tmp_path / "training.safetensors").read_bytes() == kept


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    run(lora_bert(), checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="first batch was"):
        fit(lora_bert(), lambda e: shuffled(e + 5), lr=1e-2, epochs=3, checkpoint=tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint(tmp_path, damage):
    run(lora_bert(), checkpoint=tmp_path)
    path = tmp_path / "training.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(CheckpointError, match="is damaged"):
        run(lora_bert(), checkpoint=tmp_path)


def test_another_kind_of_file(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "training.safetensors")
    with pytest.raises(CheckpointError, match="not written by fit"):
        run(lora_bert(), checkpoint=tmp_path)


def test_a_write_that_fails_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    with pytest.raises(Stop):
        run(lora_bert(), checkpoint=tmp_path, every=2, on_step=stop_at(2))
    kept = (tmp_path / "training.safetensors").read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr("peft_from_scratch.training.checkpoint.save_file", full_disk)
        with pytest.raises(CheckpointError, match="No space left on device.*unharmed"):
            run(lora_bert(), checkpoint=tmp_path, every=2)
    assert os.listdir(tmp_path) == ["training.safetensors"]
    assert (tmp_path / "training.safetensors").read_bytes() == kept
    second, whole = lora_bert(), lora_bert()
    run(second, checkpoint=tmp_path, every=2)
    run(whole)
    assert_same(tensors(second), tensors(whole))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        run(lora_bert(), checkpoint=tmp_path / "taken")


# Scores


def test_evaluate_in_the_order_of_the_data():
    model = lora_bert().train()
    data = batch("bert", rows=7)
    whole = evaluate(model, [data])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    mixed = {k: v[order] for k, v in data.items()} | {"index": order}
    parts = [{k: v[:4] for k, v in mixed.items()}, {k: v[4:] for k, v in mixed.items()}]
    score = evaluate(model, parts)
    assert model.training and score.n == 7
    assert torch.equal(score.correct, whole.correct)
    assert score.accuracy == score.correct.double().mean().item()
    with torch.no_grad():
        assert score.log_loss == pytest.approx(model.eval()(**data).loss.item(), abs=1e-6)


def test_evaluate_bad_input():
    data = batch("bert")
    with pytest.raises(ValueError, match="no batches to score"):
        evaluate(lora_bert(), [])
    with pytest.raises(ValueError, match="no 'labels'"):
        evaluate(lora_bert(), [{"input_ids": data["input_ids"]}])
    with pytest.raises(ValueError, match="comes twice"):
        evaluate(lora_bert(), [data | {"index": torch.tensor([0, 1, 1])}])
    with pytest.raises(ValueError, match="only 3 of 6"):
        evaluate(lora_bert(), [data, data | {"index": torch.arange(3)}])


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_lm_loss_weighs_tokens(name):
    model = host(name)
    long, short = batch(name, rows=3, length=9), batch(name, rows=1, length=4, seed=2)
    long["labels"] = long["labels"].clone()
    long["labels"][:, 5:] = -100
    start = 0 if name == "t5" else 1
    tokens = [3 * (5 - start), 4 - start]
    with torch.no_grad():
        losses = [model(**b).loss.item() for b in (long, short)]
    expected = sum(n * x for n, x in zip(tokens, losses, strict=True)) / sum(tokens)
    assert lm_loss(model, [long, short]) == pytest.approx(expected, rel=1e-6)
    assert lm_loss(model, [long, short | {"labels": torch.full((1, 4), -100)}]) == pytest.approx(losses[0], rel=1e-6)
    with pytest.raises(ValueError, match="no batch has a token"):
        lm_loss(model, [])
