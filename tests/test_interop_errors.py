"""Configs alone, and checkpoints that do not fit: one clear sentence, and the model as it was."""

import dataclasses
import json
import warnings

import pytest
import torch
from hosts import host, stir
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from test_interop import CASES, apart, lively, of, peft, theirs_of

from peft_from_scratch import LoRA, Replaced, adapters, inject, switch, trained
from peft_from_scratch.interop import KINDS, from_peft_config, load_peft, save_peft
from peft_from_scratch.interop.config import ABOUT, COMMON
from peft_from_scratch.methods.lowrank.delora import DeLoRA
from peft_from_scratch.methods.lowrank.kasa import KaSA
from peft_from_scratch.methods.lowrank.krona import KronA


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("case", "name"), [(case, names[-1]) for case, (_, names, _) in CASES.items()])
def test_a_config_alone_gives_the_same_adapters(case, name, tmp_path):
    """Those that the checkpoint has, with as many numbers to train as peft; on the meta device too."""
    given = of(case, name)
    given.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    if config.get("init_weights") is False and case.startswith("hra"):
        with pytest.raises(ValueError, match="random start"):
            from_peft_config(lively(name), config)
        config["init_weights"] = True
    ours = from_peft_config(lively(name), config)
    theirs = peft.get_peft_model(lively(name), given)
    count = sum(p.numel() for p in trained(ours).values())
    expected = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    if case == "boft":  # peft trains all numbers of a block, and uses the half
        expected -= sum(p.numel() * 5 // 8 for n, p in theirs.named_parameters() if "boft_R" in n)
    if case == "glora":  # and C, D and E of layers without a bias, which it never uses
        expected = count
    assert count == expected
    with torch.device("meta"):
        plain = host(name)
    meta = from_peft_config(plain, config)
    assert {k: p.shape for k, p in trained(meta).items()} == {k: p.shape for k, p in trained(ours).items()}


@pytest.fixture
def folder(tmp_path):
    model = theirs_of("llama", peft.LoraConfig(r=3, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    return tmp_path


def edit(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def refused(folder, words, error=ValueError):
    """Loading fails with these words, and leaves the model as it was: its modules, what trains, its gradients."""
    model = host("llama")
    model.lm_head.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = {k: (p.clone(), p.requires_grad, p.grad) for k, p in model.named_parameters()}
    modules = dict(model.named_modules())
    with pytest.raises(error, match=words):
        load_peft(model, folder)
    assert dict(model.named_modules()) == modules
    for k, p in model.named_parameters():
        old, trains, grad = before[k]
        assert torch.equal(p, old) and p.requires_grad == trains and p.grad is grad


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (dict(peft_type="FROM_THE_FUTURE"), "FROM_THE_FUTURE.*these can: ADALORA, .*XLORA"),
        (dict(peft_type="PROMPT_TUNING"), "PROMPT_TUNING: this package has nothing for .*lora_alpha=8"),
        (dict(peft_type=None), "these can"),
        (dict(target_modules=None), "no target_modules"),
        (dict(target_modules=["nowhere"]), "name no module of this model"),
        (dict(target_modules="q_proj"), "name no module of this model"),
        (dict(target_modules=".*q_proj", layers_to_transform=[0]), "goes with a list"),
        (dict(layers_to_transform=[7]), "name no module"),
        (dict(modules_to_save=["nowhere"]), "modules_to_save names 'nowhere'"),
        (dict(layer_replication=[[0, 2]]), "nothing for layer_replication"),
        (dict(target_parameters=["experts.weight"]), "nothing for target_parameters"),
        (dict(use_qalora=True), "nothing for use_qalora=True"),
        (dict(a_new_field=0.5), "nothing for a_new_field=0.5"),
        (dict(a_new_field=0), "nothing for a_new_field=0"),
        (dict(init_lora_weights="corda"), "path_initial_model_for_weight_conversion"),
        (dict(init_lora_weights="loftq"), "quantiser"),
        (dict(use_dora=True), "lora_magnitude_vector"),
        (dict(use_dora=True, velora_config={"num_groups": 4}), "do not go together"),
        (dict(bias="some"), "bias must be"),
        (dict(r=4), "the model needs"),
        (dict(r=0), "rank must be at least 1"),
        (dict(target_modules=["q_proj", "k_proj"]), "4 missing, 0 extra"),
        (dict(trainable_token_indices={"nowhere": [1]}), "of which this model has"),
    ],
)
def test_fields_that_cannot_be_honoured(folder, fields, words):
    edit(folder, **fields)
    refused(folder, words)


def test_unknown_fields_without_a_value_are_named_in_a_warning(folder):
    edit(folder, from_the_future=None, another=False)
    with pytest.warns(UserWarning, match="another, from_the_future"):
        load_peft(host("llama"), folder)


def test_a_checkpoint_loads_without_a_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_peft(host("llama"), folder)


def test_missing_and_broken_files(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    refused(empty, "has no adapter_config.json", FileNotFoundError)
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    whole, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:50])
    refused(folder, "not a whole safetensors file")
    weights.unlink()
    refused(folder, "has no adapter_model.safetensors", FileNotFoundError)
    (folder / "adapter_model.bin").write_bytes(b"any pickle")
    refused(folder, "a pickle")
    config.write_text(text[:40])
    refused(folder, "not a JSON file")
    config.write_text("[]")
    refused(folder, "holds a list")


def test_tensors_missing_left_over_or_of_another_shape(folder):
    whole = load_file(folder / "adapter_model.safetensors")
    key = next(k for k in whole if "lora_B" in k)
    rewrite(folder, lambda s: {k: t for k, t in s.items() if k != key})
    refused(folder, rf"1 missing, 0 extra\). missing from the file: {key}")
    rewrite(folder, lambda s: whole | {"base_model.model.lora_C": torch.ones(2)})
    refused(folder, "not in the model: base_model.model.lora_C")
    rewrite(folder, lambda s: whole | {key: torch.ones(3, 3)})
    refused(folder, r"the file has shape \(3, 3\), the model needs \(32, 3\)")
    rewrite(folder, lambda s: whole | {"base_model.model.lm_head.weight": torch.ones(61, 32)})
    refused(folder, "lm_head.weight is another one than the model's")
    rewrite(
        folder, lambda s: whole | {"base_model.model.lm_head.weight": host("llama").lm_head.weight.detach().clone()}
    )
    load_peft(host("llama"), folder)


def test_an_old_config(folder):
    """What peft 0.2 wrote in 2023: fewer fields, and two that are gone."""
    kept = ("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
            "lora_dropout", "modules_to_save", "peft_type", "r", "target_modules", "task_type")  # fmt: skip
    path = folder / "adapter_config.json"
    new = load_peft(lively("llama"), folder).eval()
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: config[k] for k in kept} | {"enable_lora": None, "merge_weights": False}))
    with pytest.warns(UserWarning, match="enable_lora, merge_weights"):
        old = load_peft(lively("llama"), folder).eval()
    assert apart(new, old, "llama") == 0


def test_shards(folder):
    whole = load_file(folder / "adapter_model.safetensors")
    expected = load_peft(lively("llama"), folder).eval()
    (folder / "adapter_model.safetensors").unlink()
    names = {k: f"adapter_model-{i % 2 + 1:05}-of-00002.safetensors" for i, k in enumerate(whole)}
    for file in set(names.values()):
        save_file({k: t for k, t in whole.items() if names[k] == file}, folder / file)
    index = folder / "adapter_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert apart(expected, load_peft(lively("llama"), folder).eval(), "llama") == 0
    (folder / "adapter_model-00002-of-00002.safetensors").unlink()
    refused(folder, "00002-of-00002.safetensors is missing", FileNotFoundError)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    refused(folder, "not a file of its own folder")
    index.write_text("{}")
    refused(folder, "not an index of shards")


@pytest.mark.filterwarnings("ignore")
def test_several_adapters_on_one_model(folder, tmp_path):
    second = theirs_of("llama", peft.LoHaConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]))
    second.save_pretrained(tmp_path / "second")
    alone = [load_peft(lively("llama"), where).eval() for where in (folder, tmp_path / "second")]
    both = load_peft(load_peft(lively("llama"), folder, "first"), tmp_path / "second", "second").eval()
    for name, one in zip(("first", "second"), alone, strict=True):
        both = switch(both, name)
        assert apart(both, one, "llama") <= 1e-6
        save_peft(both, tmp_path / name, name)
        assert apart(load_peft(lively("llama"), tmp_path / name).eval(), one, "llama") <= 1e-6
    assert apart(switch(both, None), lively("llama"), "llama") == 0
    with pytest.raises(ValueError, match="say which adapters"):
        save_peft(both, tmp_path / "no")
    with pytest.raises(ValueError, match="already has adapters called 'first'"):
        load_peft(both, folder, "first")


def test_biases_of_the_base_do_not_change_under_other_adapters():
    model = inject(host("bert"), {r".*query": LoRA})
    with pytest.raises(ValueError, match="without adapters"):
        from_peft_config(model, {"peft_type": "LORA", "target_modules": ["value"], "bias": "all"}, "second")


def test_half_precision(folder):
    ours = load_peft(lively("llama").bfloat16(), folder)
    assert all(p.dtype == torch.float32 for p in trained(ours).values())


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({r".*q_proj": KronA}, "no type for a model with KronA"),
        ({r".*q_proj": LoRA, r".*v_proj": DeLoRA}, "no type for a model with"),
        ({r".*q_proj": lambda b: DeLoRA(b, 2)}, "start='zero'"),
        ({r".*q_proj": LoRA, r".*v_proj": KaSA}, "one kasa_config for all sites"),
        ({r".*q_proj": lambda b: LoRA(b, dropout=0.5), r".*v_proj": LoRA}, "one lora_dropout for all sites"),
        ({"lm_head": Replaced}, "only whole modules"),
        ({}, "say which adapters"),
    ],
)
def test_what_peft_has_no_file_for(targets, words, tmp_path):
    model = inject(host("llama"), targets) if targets else host("llama")
    with pytest.raises(ValueError, match=words):
        save_peft(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_the_old_checkpoint(folder, monkeypatch):
    model = load_peft(lively("llama"), folder)
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    stir(trained(model).values())
    monkeypatch.setattr(
        "peft_from_scratch.interop.files.save_file", lambda *a, **k: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        save_peft(model, folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_a_weight_under_several_names(tmp_path):
    """peft adapts T5's `shared` alone, which no forward pass uses; this package adapts it wherever it stands."""
    with pytest.raises(ValueError, match="under other names too"):
        from_peft_config(host("t5"), {"peft_type": "LORA", "target_modules": ["q", "shared"]})
    with pytest.raises(ValueError, match="under other names too"):
        save_peft(inject(host("t5"), {"shared": LoRA}), tmp_path)


def test_starts_that_look_at_data_need_their_checkpoint():
    with pytest.raises(ValueError, match="looks at data"):
        from_peft_config(host("llama"), {"peft_type": "LORA", "target_modules": ["q_proj"], "init_lora_weights": "eva"})
    assert (
        len(list(adapters(from_peft_config(host("llama"), {"peft_type": "LORA", "target_modules": ["q_proj"]})))) == 2
    )


def test_every_type_of_peft_is_here():
    assert {t.value for t in peft.PeftType} == set(KINDS)


@pytest.mark.parametrize("peft_type", sorted(KINDS))
def test_every_field_of_peft_is_known(peft_type):
    """Honoured, or said to change nothing, or refused by name; and biases train where peft has a word for it."""
    make, kind = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)], KINDS[peft_type]
    theirs = {f.name for f in dataclasses.fields(make)}
    known = {*COMMON, *ABOUT, *kind.fields, *kind.patterns.values(), *kind.harmless, *kind.refused}
    assert theirs <= known | ({"trainable_token_indices"} if kind.trains_tokens else set())
    assert ("bias" in theirs) == bool(kind.bias_only)
    defaults = {f.name: f.default for f in dataclasses.fields(make) if f.default is not dataclasses.MISSING}
    plain = {name: getattr(value, "value", value) for name, value in defaults.items()}
    assert {k: v for k, v in kind.fields.items() if k in plain and v != plain[k] and (v or plain[k])} == {}
