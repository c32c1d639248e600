"""What a method costs, against figures worked out by hand or measured once and written down."""

import copy
import gc
import math
import weakref

import pytest
import torch
from hosts import batch, host
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from peft_from_scratch import (
    LoRA,
    Replaced,
    adapter_state,
    bitfit,
    full,
    head_only,
    inject,
    merge,
    save_adapter,
    trained,
)
from peft_from_scratch.measure import (
    adapter_bytes,
    count,
    file_bytes,
    flop_ratio,
    interleaved_ratio,
    merge_error,
    peak_allocated,
    saved_bytes,
    static_bytes,
    step_flops,
    sync,
)
from peft_from_scratch.measure.step import traceless
from peft_from_scratch.training.running import inputs

MIB = 2**20
QV = {r".*\.(query|value)": LoRA, "classifier": Replaced}
ALL = {"all-linear": LoRA, "classifier": Replaced}
METHODS = {
    "full": full,
    "head": head_only,
    "qv": lambda model: inject(model, QV),
    "all": lambda model: inject(model, ALL),
    "bitfit": bitfit,
    "top1": lambda model: top(model, 1),
    "top2": lambda model: top(model, 2),
    "top3": lambda model: top(model, 3),
}


def top(model, k):
    """The last k layers, the pooler and the head."""
    model.requires_grad_(False)
    for part in [*model.bert.encoder.layer[-k:], model.bert.pooler, model.classifier]:
        part.requires_grad_(True)
    return model


def minilm(method="full", attention="eager", **config):
    """The shape of MiniLM-L6 with random weights; its 0.1 of dropout is part of what is saved for backward."""
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=30522,
        num_labels=2, attn_implementation=attention, **config,
    )  # fmt: skip
    return METHODS[method](BertForSequenceClassification(config))


def tokens(rows, length):
    ids = torch.randint(0, 30522, (rows, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros(rows, dtype=torch.long)}


# Counts


@pytest.mark.parametrize(("method", "trains"), [("qv", 73_728), ("all", 331_776)])
def test_counts_of_minilm(method, trains):
    model = minilm(method)
    assert count(model) == (22_713_216 + 770 + trains + 770, trains + 770, trains + 770)


def test_count_saved_is_what_is_saved():
    for model in (inject(host("bert"), QV), bitfit(host("gpt2")), full(host("t5"))):
        assert count(model).saved == sum(t.numel() for t in adapter_state(model).values())


def test_count_shared_once():
    model = host("gpt2")  # the output head is the embedding
    assert count(model).total == sum({p.data_ptr(): p.numel() for p in model.parameters()}.values())
    assert "lm_head.weight" in model.state_dict()


def test_count_of_a_frozen_model_and_of_named_adapters():
    model = host("bert").requires_grad_(False)
    assert count(model)[1:] == (0, 0)
    model = inject(inject(model, {r".*\.query": lambda m: LoRA(m, 2)}), {r".*\.value": lambda m: LoRA(m, 4)}, "b")
    assert count(model).trained == count(model, "b").saved == 2 * 4 * 48
    assert count(model).saved == 2 * 4 * 48 + 2 * 2 * 48


# Bytes


@pytest.mark.parametrize(("method", "mib"), [("full", 346.6), ("qv", 87.8)])
def test_static_bytes_of_minilm(method, mib):
    """4 P + 12 T bytes, in MiB to the printed decimal; here with the trained copy of the head."""
    assert round(static_bytes(minilm(method)).total / MIB, 1) == mib


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, 1e-3, fused=True)),
        ("momentum", lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)),
        ("sgd", lambda p: torch.optim.SGD(p, 1e-3)),
    ],
)
def test_static_bytes_are_what_the_optimizer_holds(name, make, dtype):
    model = inject(host("bert").to(dtype), QV)
    parameters = list(trained(model).values())
    optimizer = make(parameters)
    model(**batch("bert")).loss.backward()
    optimizer.step()
    bytes_ = static_bytes(model, name)
    assert bytes_.gradients == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    kept = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    assert bytes_.optimizer == sum(t.nbytes for t in kept)
    assert bytes_.weights == sum(t.nbytes for t in [*model.parameters(), *model.buffers()])
    assert bytes_.total == sum(bytes_)


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="choose one of"):
        static_bytes(nn.Linear(1, 1), "lion")


def test_saved_bytes_by_hand():
    """Linear, ReLU, Linear: x for the first weight, the ReLU's output for its own and the second weight, once."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))

        def forward(self, x, labels):
            out = self.layers(x)
            return type("Output", (), {"loss": out.sum()})

    data = {"x": torch.randn(10, 8), "labels": torch.zeros(1)}
    net = Net()
    assert saved_bytes(net, data) == 4 * 10 * (8 + 16)
    net.layers[0].requires_grad_(False)  # the ReLU's output only: x is not needed, nor is the ReLU's gradient
    assert saved_bytes(net, data) == 4 * 10 * 16
    net.layers[2].requires_grad_(False)
    assert saved_bytes(net, data) == 0


@pytest.mark.parametrize(
    ("method", "mib"), [("full", 441.4), ("qv", 322.1), ("all", 434.6), ("bitfit", 312.3), ("head", 0), ("top1", 75.2)]
)
def test_saved_bytes_of_minilm(method, mib):
    """Batch 32 x 64, float32, eager attention, dropout 0.1."""
    assert saved_bytes(minilm(method), tokens(32, 64)) / MIB == pytest.approx(mib, abs=0.055)


def test_what_was_measured_is_freed():
    """A hook that hands back an output of the operation that saves it makes a cycle through C++, which no one frees."""
    for measure in (saved_bytes, step_flops):
        model = host("llama")
        weight = weakref.ref(next(model.parameters()))
        measure(model, batch("llama"))
        del model
        gc.collect()
        assert weight() is None, measure.__name__


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_peak_without_a_gpu():
    ran = []
    assert peak_allocated(lambda: ran.append(1)) is None and ran == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_on_a_gpu():
    before = torch.cuda.memory_allocated()
    assert before + 4 * MIB <= peak_allocated(lambda: torch.ones(MIB, device="cuda")) <= before + 5 * MIB


# FLOPs


def test_flops_of_minilm_in_full():
    model, data = minilm(), tokens(16, 64)
    forward = step_flops(model, data, backward=False)
    assert forward == 22_351_994_880
    assert step_flops(model, data) == forward + 44_703_989_760


@pytest.mark.parametrize(
    ("method", "ratio"),
    [
        ("qv", 0.6680), ("all", 0.6923), ("head", 0.3333), ("bitfit", 0.6757),
        ("top1", 0.4311), ("top2", 0.5421), ("top3", 0.6532),
    ],
)  # fmt: skip
def test_flop_ratio_of_minilm(method, ratio):
    """Batch 16 x 64; a small batch gives the same ratio, since everything counted is in proportion to it."""
    assert round(flop_ratio(minilm(method), minilm(), tokens(2, 64)), 4) == ratio


@pytest.mark.parametrize(("method", "more"), [("full", 6), ("qv", 7)])
def test_flops_of_fused_attention(method, more):
    """Fused attention does the eager products, and Q K^T once more in each layer's backward pass.

    With LoRA on q and v it also computes the gradient of the first layer's keys, which nothing needs.
    """
    config = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # with dropout torch does not fuse
    data = tokens(2, 64)
    eager, fused = (minilm(method, kind, **config) for kind in ("eager", "sdpa"))
    assert step_flops(eager, data, backward=False) == step_flops(fused, data, backward=False)
    assert step_flops(fused, data) - step_flops(eager, data) == more * 2 * 2 * 64 * 64 * 384


def test_flops_of_fused_attention_with_grouped_queries():
    from transformers import LlamaForCausalLM

    config = host("llama").config
    flops = []
    for kind in ("eager", "sdpa"):
        config._attn_implementation = kind
        flops.append(step_flops(LlamaForCausalLM(copy.deepcopy(config)), batch("llama"), backward=False))
    assert flops[0] == flops[1] > 0


def test_measuring_leaves_no_trace():
    model, data = inject(host("bert"), QV), batch("bert") | {"index": torch.arange(3)}
    model(**inputs(data, torch.device("cpu"))).loss.backward()
    gradients = {k: p.grad.clone() for k, p in trained(model).items()}
    state = torch.get_rng_state()
    step_flops(model, data)
    saved_bytes(model, data)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training and "index" in data
    assert all(torch.equal(p.grad, gradients[k]) for k, p in trained(model).items())
    with pytest.raises(ZeroDivisionError), traceless(model):
        _ = 1 / 0
    assert not model.training and all(p.grad is not None for p in trained(model).values())


# Time, disk, merging


def test_interleaved_ratio(monkeypatch):
    """With a clock that each call moves on: A takes 2 s (3 s each fourth time), B takes 1 s."""
    now, order = [0.0], []

    def fn(name, seconds):
        def call():
            order.append(name)
            now[0] += seconds[(order.count(name) - 1) % len(seconds)]

        return call

    monkeypatch.setattr("peft_from_scratch.measure.timing.time.perf_counter", lambda: now[0])
    ratio = interleaved_ratio(fn("a", [2, 2, 2, 3]), fn("b", [1]), rounds=8)
    assert ratio.minimum == ratio.median == 2 and 2 <= ratio.low <= ratio.high <= 3
    assert (ratio.seconds_a, ratio.seconds_b) == (2, 1)
    assert "".join(order) == "ab" + "baab" * 4
    with pytest.raises(ValueError, match="at least 3"):
        interleaved_ratio(sync, sync, rounds=2)


def test_interleaved_ratio_of_real_work():
    ratio = interleaved_ratio(lambda: sum(range(20_000)), lambda: sum(range(1_000)), rounds=9)
    assert ratio.minimum > 2


def test_adapter_bytes(tmp_path):
    model = inject(host("bert"), QV)
    path = save_adapter(model, tmp_path / "a.safetensors")
    assert adapter_bytes(model) == file_bytes(path) == file_bytes(tmp_path) == path.stat().st_size
    assert 4 * count(model).saved < adapter_bytes(model) < 4 * count(model).saved + 4096


def test_merge_error():
    model = inject(host("bert"), QV)
    with torch.no_grad():
        for p in trained(model).values():
            p.add_(torch.randn_like(p) * 0.1)
    model.train()
    good = merge_error(model, merge(model), batch("bert"))
    assert model.training and 0 <= good.absolute < 1e-5 and good.relative < 1e-5
    bad = merge_error(model, host("bert"), batch("bert"))
    assert bad.absolute > 1e-3 and math.isfinite(bad.relative)
    assert merge_error(model, model, batch("bert")) == (0, 0)
