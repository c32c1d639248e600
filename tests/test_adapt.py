"""The mechanism's rules. Each was found by something that went wrong."""

import copy
import subprocess
import sys

import pytest
import torch
from hosts import batch, host, stir
from torch import nn

from peft_from_scratch import (
    Adapter,
    LoRA,
    Replaced,
    Switch,
    adapter_state,
    adapters,
    bitfit,
    describe,
    freeze,
    full,
    head_only,
    inject,
    load_adapter,
    merge,
    remove,
    save_adapter,
    switch,
    trained,
)
from peft_from_scratch.targets import output_head

QV = r".*\.(query|value)"


class Block(Adapter):
    """Wraps any module and adds a trained number to what it returns."""

    def __init__(self, base):
        super().__init__(base)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, *args, **kwargs):
        y = self.base(*args, **kwargs)
        return (y[0] + self.shift, *y[1:]) if isinstance(y, tuple) else y + self.shift


def adapted(name="default", model=None, seed=3):
    model = inject(model or host("bert"), {QV: LoRA, "classifier": Replaced}, name=name)
    stir(trained(model).values(), seed=seed)
    return model


@torch.no_grad()  # with gradients on, torch may choose another kernel for a frozen layer than for a trained one
def logits(model, name="bert"):
    return model(**batch(name)).logits


# --- targets ---------------------------------------------------------------------------------------------------


def test_a_target_that_matches_nothing_says_what_is_near():
    with pytest.raises(ValueError, match=r"'\.\*quary' names no module.*attention\.self\.query"):
        inject(host("bert"), {".*quary": LoRA})
    with pytest.raises(ValueError, match=r"must match the whole name.*bert.*attention\.self\.query"):
        inject(host("bert"), {"query": LoRA})


def test_a_partly_wrong_list_changes_nothing():
    model = host("bert")
    with pytest.raises(ValueError, match="vlaue"):
        inject(model, {(r".*\.query", r".*\.vlaue"): LoRA})
    assert not list(adapters(model)) and all(p.requires_grad for p in model.parameters())


def test_injecting_twice_is_an_error_that_says_what_to_do():
    model = adapted()
    before = logits(model)
    with pytest.raises(ValueError, match=r"query' already has an adapter called 'default'.*remove.*name="):
        inject(model, {r".*\.query": LoRA})
    assert torch.equal(logits(model), before)


def test_two_targets_for_one_module_and_targets_inside_a_replaced_module():
    with pytest.raises(ValueError, match="two targets name"):
        inject(host("bert"), {r".*\.query": LoRA, r".*self\..*": Replaced})
    with pytest.raises(ValueError, match="Replaced as a whole"):
        inject(host("bert"), {"bert.pooler": Replaced, r"bert\.pooler\.dense": LoRA})
    with pytest.raises(ValueError, match="Replaced as a whole"):
        inject(inject(host("bert"), {"bert.pooler": Replaced}), {r"bert\.pooler\.dense": LoRA}, name="later")


@pytest.mark.parametrize("bad", [dict(rank=0), dict(rank=-2), dict(alpha=0), dict(alpha=-1.0)])
def test_rank_and_alpha_must_be_positive(bad):
    with pytest.raises(ValueError, match="rank must be at least 1 and alpha above 0"):
        LoRA(nn.Linear(4, 3), **bad)


def test_a_layer_without_a_matrix_is_named():
    with pytest.raises(TypeError, match="LayerNorm has no single weight matrix"):
        inject(host("bert"), {r".*LayerNorm": LoRA})


@pytest.mark.parametrize(("name", "per_layer"), [("bert", 6), ("gpt2", 4), ("llama", 7), ("t5", None)])
def test_all_linear_is_every_linear_layer_but_the_head(name, per_layer):
    model = inject(host(name), {"all-linear": LoRA})
    found = [site for site, _ in adapters(model)]
    assert not any("lm_head" in s or "classifier" in s or "pooler" in s for s in found)
    assert len(found) == (2 * per_layer if per_layer else 2 * 6 + 2 * 10)


def test_all_linear_against_peft():
    """The same modules as peft's word, but for BERT's pooler, which peft 0.21.2 adapts in a classifier."""
    peft = pytest.importorskip("peft")
    for name, task in (("bert", "SEQ_CLS"), ("gpt2", "CAUSAL_LM"), ("llama", "CAUSAL_LM"), ("t5", "SEQ_2_SEQ_LM")):
        ours = {site for site, _ in adapters(inject(host(name), {"all-linear": LoRA}))}
        fan = dict(fan_in_fan_out=True) if name == "gpt2" else {}
        theirs = peft.get_peft_model(host(name), peft.LoraConfig(target_modules="all-linear", task_type=task, **fan))
        found = {n for n, m in theirs.base_model.model.named_modules() if hasattr(m, "lora_A")}
        assert found - ours == ({"bert.pooler.dense"} if name == "bert" else set()) and not ours - found


def test_all_linear_leaves_to_a_pattern_what_the_pattern_names():
    model = inject(host("bert"), {"all-linear": LoRA, r".*\.query": lambda b: LoRA(b, rank=2)})
    ranks = {site.split(".")[-1]: a.rank for site, a in adapters(model)}
    assert ranks["query"] == 2 and ranks["key"] == 8


def test_a_plain_module_has_no_head():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert output_head(model) == set()
    assert len(list(adapters(inject(model, {"all-linear": LoRA})))) == 2


# --- hosts -----------------------------------------------------------------------------------------------------


def test_the_model_itself_and_nested_sites():
    plain = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    before = plain(x)
    model = inject(plain, {"": Block, "0": LoRA, "1": Block})
    assert isinstance(model, Block) and torch.equal(model(x), before)
    assert sorted(adapter_state(model)) == ["0.A", "0.B", "1.shift", "shift"]
    stir(trained(model).values())
    twin = inject(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), {"": Block, "0": LoRA, "1": Block})
    twin.base.load_state_dict({k.replace("0.base.", "0.base."): v for k, v in model.base.state_dict().items()})
    assert torch.equal(load_adapter(twin, adapter_state(model))(x), model(x))
    model = remove(model)
    assert type(model) is nn.Sequential and torch.equal(model(x), before)


def test_a_module_under_several_names_is_adapted_at_all_of_them():
    model = nn.Module()
    model.shared = nn.Embedding(11, 6)
    model.body = nn.Sequential(model.shared, nn.Linear(6, 3))
    model = inject(model, {r"body\.0": LoRA})
    assert isinstance(model.shared, LoRA) and model.shared is model.body[0]
    assert len(adapter_state(model)) == 2


def test_one_weight_in_several_modules_is_adapted_in_all_of_them():
    """T5's encoder and decoder each have an embedding over the shared weight; `shared` itself is never called."""
    for target in ("shared", r"decoder\.embed_tokens"):
        model = inject(host("t5"), {target: LoRA})
        assert isinstance(model.shared, LoRA)
        assert model.shared is model.encoder.embed_tokens is model.decoder.embed_tokens
        assert len(adapter_state(model)) == 2
        before = logits(model, "t5")
        stir(trained(model).values())
        assert not torch.equal(logits(model, "t5"), before)
        with pytest.raises(ValueError, match="already has an adapter"):
            inject(model, {r"encoder\.embed_tokens": LoRA})
        model = inject(model, {r"encoder\.embed_tokens": LoRA}, name="second")
        assert isinstance(model.decoder.embed_tokens, Switch)
        assert torch.equal(logits(remove(model), "t5"), logits(host("t5"), "t5"))


def test_hosts_that_pass_a_layer_by_fail_loudly():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = inject(attention, {"out_proj": LoRA})
    x = torch.randn(2, 3, 8)
    with pytest.raises(RuntimeError):
        model(x, x, x)
    assert LoRA(nn.Linear(4, 3)).weight.shape == (0,)


def test_what_hosts_read_is_an_explicit_list():
    layer = LoRA(nn.Conv2d(4, 3, 3, stride=2))
    assert layer.stride == (2, 2) and layer.out_channels == 3 and layer.bias is layer.base.bias
    with pytest.raises(AttributeError):
        _ = layer.anything_else
    replaced = Replaced(nn.Linear(4, 3))
    assert replaced.weight is replaced.trained.weight and replaced.bias is replaced.trained.bias


def test_frozen_batch_norm_stays_in_eval():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    running = model[1].running_mean.clone()
    model = inject(model, {"0|3": LoRA}).train()
    x = torch.randn(2, 3, 9, 9)
    model(x)
    assert torch.equal(model[1].base.running_mean, running)
    assert type(merge(model)[1]) is nn.BatchNorm2d and type(remove(model)[1]) is nn.BatchNorm2d


def test_a_trained_batch_norm_follows_the_mode():
    model = inject(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), {"1": Replaced}).train()
    model(torch.randn(2, 3, 9, 9))
    assert model[1].trained.running_mean.any() and not model[1].base.running_mean.any()


def test_an_adapter_comes_in_the_mode_of_its_layer():
    assert not any(m.training for m in inject(host("bert"), {QV: lambda b: LoRA(b, dropout=0.5)}).modules())
    assert all(m.training for m in inject(host("bert").train(), {QV: LoRA}).modules())


def test_frozen_is_not_eval():
    model = adapted()
    model.train()  # BERT's dropout is on by default
    assert not torch.equal(logits(model), logits(model))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_gradients_or_an_error(name, reentrant):
    model = inject(host(name), {"all-linear": LoRA})
    stir(trained(model).values())
    model.config.use_cache = False
    model(**batch(name)).loss.backward()
    plain = {k: p.grad.clone() for k, p in trained(model).items()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        model.enable_input_require_grads()  # without it nothing below an adapter wants a gradient: train.fit says so
    for m in model.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
        elif isinstance(getattr(m, "dropout", None), float):  # T5's attention keeps a number
            m.dropout = 0.0
    model.train()
    model(**batch(name)).loss.backward()
    for k, p in trained(model).items():
        assert (p.grad - plain[k]).norm() <= 1e-4 * plain[k].norm(), k


def test_freezing_drops_stale_gradients():
    model = host("bert")
    model(**batch("bert")).loss.backward()
    freeze(model)
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())


# --- several adapters ------------------------------------------------------------------------------------------


def test_named_adapters_switch_heads_included_and_off_is_the_base():
    base = logits(host("bert"))
    one = adapted("sentiment")
    first = logits(one)
    assert not any(isinstance(m, Switch) for m in one.modules()), "one adapter needs no switch"
    both = inject(one, {"all-linear": LoRA, "classifier": Replaced}, name="spam")
    assert torch.equal(logits(both), base)
    stir(trained(both).values(), seed=7)
    second = logits(both)
    assert torch.equal(logits(switch(both, "sentiment")), first)
    assert torch.equal(logits(switch(both, "spam")), second)
    assert torch.equal(logits(switch(both, None)), base) and not trained(both)
    with pytest.raises(ValueError, match=r"no adapter is called 'ham'.*sentiment.*spam"):
        switch(both, "ham")


def test_one_adapter_alone_can_be_switched_off_too():
    base, model = logits(host("bert")), adapted()
    y = logits(model)
    model = switch(model, None)
    assert torch.equal(logits(model), base)
    assert torch.equal(logits(switch(model, "default")), y)


def test_an_optimiser_cannot_move_an_inactive_adapter():
    model = adapted("a")
    model(**batch("bert")).loss.backward()
    before = adapter_state(model, "a")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model = inject(model, {QV: LoRA, "classifier": Replaced}, name="b")
    model(**batch("bert")).loss.backward()
    optimizer.step()
    assert all(torch.equal(before[k], t) for k, t in adapter_state(model, "a").items())
    assert set(trained(switch(model, "a"))) == set(before)


def test_what_an_adapter_froze_itself_stays_frozen_through_a_switch():
    model = adapted("a")
    for _, a in adapters(model):
        if isinstance(a, LoRA):
            a.A.requires_grad_(False)  # as LoRA-FA does
    model = switch(inject(model, {QV: LoRA}, name="b"), "a")
    assert not any(k.endswith(".A") for k in trained(model)) and any(k.endswith(".B") for k in trained(model))
    assert any(k.endswith(".A") for k in adapter_state(model, "a")), "frozen tensors are state too"


def test_state_of_one_adapter_fits_a_model_with_or_without_a_switch(tmp_path):
    alone = adapted("a")
    both = inject(adapted("b", seed=9), {QV: LoRA, "classifier": Replaced}, name="a")
    load_adapter(both, save_adapter(alone, tmp_path / "a.safetensors", "a"), "a")
    assert torch.equal(logits(switch(both, "a")), logits(alone))
    with pytest.raises(ValueError, match=r"say which adapters.*'a', 'b'"):
        adapter_state(both)


def test_removing_one_of_several():
    model = inject(adapted("a"), {QV: LoRA, "classifier": Replaced}, name="b")
    y = logits(switch(model, "a"))
    model = remove(model, "b")
    assert torch.equal(logits(model), y) and {a.name for _, a in adapters(model)} == {"a"}
    with pytest.raises(ValueError, match="no adapter 'b' to remove"):
        remove(model, "b")
    assert torch.equal(logits(remove(model, "a")), logits(host("bert")))


def test_a_bad_adapter_name():
    for bad in ("", "a.b"):
        with pytest.raises(ValueError, match="without a dot"):
            inject(host("bert"), {QV: LoRA}, name=bad)


# --- merging ---------------------------------------------------------------------------------------------------


def test_merged_is_a_plain_model_that_saves_and_loads(tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    for name, auto in (("bert", AutoModelForSequenceClassification), ("gpt2", AutoModelForCausalLM)):
        model = host(name)
        target = {"all-linear": LoRA, r".*(word_embeddings|wte)": LoRA}
        model = inject(model, target)
        stir(trained(model).values(), std=0.2)
        plain = merge(model)
        assert not any(isinstance(m, Adapter) for m in plain.modules())
        plain.save_pretrained(tmp_path / name)
        again = auto.from_pretrained(tmp_path / name).eval()
        assert (logits(again, name) - logits(model, name)).abs().max() <= 1e-5


def test_merging_a_method_without_a_merge():
    model = inject(host("bert"), {r"bert\.encoder\.layer\.\d+": Block})
    with pytest.raises(NotImplementedError, match="Block changes activations, not weights"):
        merge(model)


def test_merging_a_switch_merges_what_is_active():
    model = inject(adapted("a"), {QV: LoRA}, name="b")
    assert (logits(merge(switch(model, "a"))) - logits(model)).abs().max() <= 1e-5
    assert torch.equal(logits(merge(switch(model, None))), logits(host("bert")))


# --- state -----------------------------------------------------------------------------------------------------


def test_state_is_a_copy_under_plain_names():
    model = adapted()
    state = adapter_state(model)
    assert "bert.encoder.layer.0.attention.self.query.A" in state and "classifier.trained.weight" in state
    before = copy.deepcopy(state)
    stir(trained(model).values())
    assert all(torch.equal(state[k], before[k]) for k in state)


def test_loading_is_all_or_nothing():
    model, state = adapted(), adapter_state(adapted(seed=8))
    before = adapter_state(model)
    key = "bert.encoder.layer.0.attention.self.query.A"
    for broken, error, words in (
        ({k: v for k, v in state.items() if k != key}, KeyError, "1 missing.*query.A"),
        (state | {"extra.B": torch.zeros(2)}, KeyError, "1 extra.*extra.B"),
        (state | {key: torch.zeros(3, 24)}, ValueError, r"shape \(3, 24\), the model \(8, 24\)"),
    ):
        with pytest.raises(error, match=words):
            load_adapter(model, broken)
        assert all(torch.equal(before[k], t) for k, t in adapter_state(model).items())


def test_a_file_with_other_settings_or_damage_is_refused(tmp_path):
    path = save_adapter(adapted(), tmp_path / "a.safetensors")
    other = inject(host("bert"), {QV: lambda b: LoRA(b, alpha=32), "classifier": Replaced})
    with pytest.raises(
        ValueError, match=r"saved as LoRA\(rank=8, alpha=16\), but this model has LoRA\(rank=8, alpha=32\)"
    ):
        load_adapter(other, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_adapter(adapted(), path)
    with pytest.raises(FileNotFoundError, match="no adapter file"):
        load_adapter(adapted(), tmp_path / "b.safetensors")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_adapter(adapted(), tmp_path / "a.safetensors")
    old = path.read_bytes()

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peft_from_scratch.state.save_file", no_space)
    with pytest.raises(OSError, match="No space"):
        save_adapter(adapted(seed=9), path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_the_file_holds_the_adapter_and_a_header(tmp_path):
    path = save_adapter(adapted(), tmp_path / "a.safetensors")
    tensors = sum(4 * t.numel() for t in adapter_state(adapted()).values())
    assert tensors < path.stat().st_size < tensors + 4096


def test_sharded_tensors_are_gathered():
    class Shard(torch.Tensor):
        def full_tensor(self):
            return torch.arange(6.0)

    model = inject(nn.Sequential(nn.Linear(4, 3)), {"0": Block})
    model[0].register_buffer("piece", torch.zeros(3).as_subclass(Shard))
    assert torch.equal(adapter_state(model)["0.piece"], torch.arange(6.0))


def test_full_fine_tuning_is_saved_and_loaded_but_not_removed():
    model = full(host("bert"))
    stir(model.parameters(), std=0.01)
    again = load_adapter(full(host("bert")), adapter_state(model))
    assert torch.equal(logits(again), logits(model))
    with pytest.raises(ValueError, match="train in place.*load the model again"):
        remove(model)
    with pytest.raises(ValueError, match="nothing to save"):
        adapter_state(freeze(host("bert")))


# --- the other first methods -----------------------------------------------------------------------------------


def test_head_only_trains_the_head():
    model = head_only(host("bert"))
    assert set(trained(model)) == {"classifier.trained.weight", "classifier.trained.bias"}


def test_bitfit_equals_training_the_biases_in_place():
    """The oracle is torch itself: the same steps with only the biases' requires_grad on."""
    ours, masked = bitfit(host("bert")), host("bert")
    for name, p in masked.named_parameters():
        p.requires_grad_(name.endswith("bias"))
    assert sum(p.numel() for p in trained(ours).values()) == sum(
        p.numel() for p in masked.parameters() if p.requires_grad
    )
    for model in (ours, masked):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(**batch("bert")).loss.backward()
            optimizer.step()
    assert torch.equal(logits(ours), logits(masked))
    with pytest.raises(ValueError, match="a Llama has none"):
        bitfit(host("llama"))


def test_describe(capsys):
    describe(adapted())
    out = capsys.readouterr().out
    assert "bert.encoder.layer.*.attention.self.query  LoRA(rank=8, alpha=16)  x2     768    768" in out
    assert "trains 1,586 of" in out and "saved 1,586" in out
    describe(full(host("bert")))
    assert "in place" in capsys.readouterr().out


def test_importing_the_package_is_light():
    code = (
        "import sys, peft_from_scratch; "
        "heavy = {'transformers', 'datasets', 'matplotlib', 'IPython', 'ipywidgets', 'pydantic', 'peft'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


class Shared(Adapter):
    """A number that all sites of one set train together."""

    def __init__(self, base, bank):
        super().__init__(base)
        self.bank = bank

    def forward(self, x):
        return self.base(x) * self.bank.scale


def test_what_several_sites_share_trains_once_and_is_saved_once(tmp_path):
    def made():
        torch.manual_seed(0)
        bank = nn.Module()
        bank.scale = nn.Parameter(torch.ones(()))
        return inject(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), {"[01]": lambda b: Shared(b, bank)})

    model, x = made(), torch.randn(2, 3)
    assert list(trained(model)) == ["0.bank.scale"] == list(adapter_state(model))
    stir(trained(model).values())
    again = load_adapter(made(), save_adapter(model, tmp_path / "a.safetensors"))
    assert torch.equal(again(x), model(x)) and again[0].bank is again[1].bank
    twin = copy.deepcopy(model)
    assert twin[0].bank is twin[1].bank
