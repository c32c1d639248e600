"""load: the tiny models, the two real ones, and everything that is not a model."""

import json
import logging
import os

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from peft_from_scratch.assets import AssetError
from peft_from_scratch.models import NAMES, load, pretrained, smollm2
from peft_from_scratch.models.tiny import vocabulary

TINY = [name for name in NAMES if name.startswith("tiny-")]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("task", ["classify", "generate", "embed"])
def test_a_tiny_model_runs_for_each_task(name, task):
    if (name, task) == ("tiny-bert", "generate"):
        pytest.skip("an encoder does not generate")
    model, tokenizer = load(name, task, num_labels=3)
    batch = tokenizer(["the film was not good .", "Odd words!"], return_tensors="pt", padding=True)
    if name == "tiny-t5" and task != "classify":
        batch["decoder_input_ids"] = batch["input_ids"]
    out = model(**batch)
    size = {"classify": 3, "generate": len(vocabulary()), "embed": 36}[task]
    assert (out["logits"] if "logits" in out else out["last_hidden_state"]).shape[-1] == size
    assert not model.training and model.dtype == torch.float32


@pytest.mark.parametrize("name", TINY)
def test_the_seed_draws_the_head_and_nothing_else(name):
    before = torch.get_rng_state()
    states = [load(name, seed=seed)[0].state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    changed = {key for key in states[0] if not torch.equal(states[0][key], states[2][key])}
    assert changed and all(key.startswith(("classifier", "score", "classification_head")) for key in changed)


def test_body_and_classifier_share_the_body():
    body, classifier = load("tiny-llama", "embed")[0], load("tiny-llama", seed=7)[0]
    assert all(torch.equal(p, classifier.model.state_dict()[key]) for key, p in body.state_dict().items())


def test_tiny_llama_has_grouped_queries_and_no_square_projection():
    attention = load("tiny-llama", "generate")[0].model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (40, 36) and attention.k_proj.weight.shape == (20, 36)


@pytest.mark.parametrize("name", TINY)
def test_the_tiny_tokenizer_writes_any_ascii_text(name):
    _, tokenizer = load(name)
    text = "the film was not good. what is 17 plus 4? zq@x"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids and tokenizer.pad_token_id == 0
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_arguments_reach_transformers():
    assert load("tiny-gpt2", "generate", attn_implementation="eager")[0].config._attn_implementation == "eager"
    assert load("tiny-bert", dtype=torch.bfloat16)[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("minlm", "classify", "did you mean 'minilm'"),
        ("tiny-bart", "classify", "did you mean 'tiny-bert'"),
        ("/no/such/folder", "classify", "a folder must exist"),
        ("tiny-bert", "clasify", "did you mean 'classify'"),
        ("tiny-bert", "generate", "is an encoder and cannot generate"),
    ],
)
def test_a_wrong_name_or_task_is_one_sentence(name, task, message):
    with pytest.raises(ValueError, match=message):
        load(name, task)


@pytest.mark.parametrize("key", ["trust_remote_code", "use_safetensors", "gguf_file"])
def test_how_files_are_read_cannot_be_loosened(key):
    with pytest.raises(ValueError, match=f"{key} cannot be set"):
        load("tiny-bert", **{key: True})


def test_a_hub_name_without_network_says_what_works():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(AssetError, match=r"needs the network the first time; .*tiny-bert"):
        load("no-such-organisation/no-such-model")


def save_tiny(folder, **kwargs):
    """A BERT body, without a head, and its tokenizer as a folder of the hub's form."""
    model, tokenizer = load("tiny-bert", "embed")
    model.save_pretrained(folder, **kwargs)
    tokenizer.save_pretrained(folder)
    return model


def test_a_local_folder_loads_and_its_new_head_alarms_nobody(tmp_path, caplog, capsys):
    body = save_tiny(tmp_path)
    capsys.readouterr()
    logging.getLogger("transformers").addHandler(caplog.handler)
    model, tokenizer = load(str(tmp_path), seed=3)
    other, _ = load(str(tmp_path), seed=4)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not caplog.records and capsys.readouterr().err == ""
    assert all(torch.equal(p, model.bert.state_dict()[key]) for key, p in body.state_dict().items())
    assert not torch.equal(model.classifier.weight, other.classifier.weight)
    assert tokenizer("the film")["input_ids"] == load("tiny-bert")[1]("the film")["input_ids"]


def test_a_checkpoint_that_lacks_part_of_the_body_is_still_reported(tmp_path, caplog):
    save_tiny(tmp_path)
    deeper = BertConfig.from_pretrained(tmp_path, num_hidden_layers=3)
    deeper.save_pretrained(tmp_path)
    logging.getLogger("transformers").addHandler(caplog.handler)
    load(str(tmp_path))
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert any("LOAD REPORT" in record.getMessage() for record in caplog.records)


def test_pickled_weights_are_not_read(tmp_path):
    model = save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(AssetError, match="not a folder of a model in safetensors format"):
        load(str(tmp_path))


def test_code_in_a_model_folder_is_not_run(tmp_path):
    save_tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="needs code of its own, and that is never run"):
        load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="is not a folder of a model: it holds no config.json"):
        load(str(tmp_path))


def test_minilm(asset):
    folder = asset("minilm")
    model, tokenizer = load("minilm")
    assert type(model).__name__ == "BertForSequenceClassification"
    assert sum(p.numel() for p in model.bert.parameters()) == 22_713_216
    plain = BertModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(p, plain[key]) for key, p in model.bert.state_dict().items())
    assert len(tokenizer("a " * 200, truncation=True, max_length=64)["input_ids"]) == 64
    with pytest.raises(ValueError, match="is an encoder"):
        load("minilm", "generate")


@pytest.fixture
def converted(monkeypatch, tmp_path):
    """The conversion of SmolLM2 with a tiny Llama in place of the real one; counts how often it ran."""
    runs = []

    def convert(source, target):
        runs.append(target)
        model, tokenizer = load("tiny-llama", "generate")
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)

    monkeypatch.setenv("PFS_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "fetch", lambda name, cache: tmp_path)
    monkeypatch.setattr(smollm2, "convert", convert)
    return runs


def test_the_conversion_happens_once(converted, capsys):
    model, tokenizer = load("smollm2", "generate")
    load("smollm2")
    assert len(converted) == 1 and capsys.readouterr().out.count("converting once") == 1
    assert type(model).__name__ == "LlamaForCausalLM" and tokenizer.chat_template


@pytest.mark.parametrize("fault", ["byte", "missing", "manifest"])
def test_a_changed_conversion_is_made_again(converted, capsys, fault):
    folder = smollm2.smollm2_folder()
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    if fault == "byte":
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    elif fault == "missing":
        weights.unlink()
    else:
        (folder / "manifest.json").write_text('{"gguf": ')
    assert smollm2.smollm2_folder() == folder and len(converted) == 2
    assert weights.read_bytes() == good and "does not match its manifest" in capsys.readouterr().out


def test_a_stopped_conversion_leaves_nothing_half_done(converted, monkeypatch):
    def stop(source, target):
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    work = smollm2.convert
    monkeypatch.setattr(smollm2, "convert", stop)
    with pytest.raises(KeyboardInterrupt):
        smollm2.smollm2_folder()
    monkeypatch.setattr(smollm2, "convert", work)
    assert smollm2.verified(smollm2.smollm2_folder())


@pytest.mark.slow
def test_smollm2(asset):
    folder = asset("smollm2")
    model, tokenizer = load("smollm2", "generate")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "<|im_start|>" in tokenizer.chat_template and not hasattr(model.config, "quantization_config")
    batch = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**batch, max_new_tokens=2, do_sample=False)[0])
    raw = AutoModelForCausalLM.from_pretrained(folder, gguf_file=smollm2.GGUF, dtype=torch.float32)
    assert all(torch.equal(p, model.state_dict()[key]) for key, p in raw.state_dict().items())


def test_the_known_report_is_the_only_one_held_back():
    model = load("tiny-bert")[0]
    fine = {"missing_keys": ["classifier.weight"], "unexpected_keys": [], "mismatched_keys": []}
    assert pretrained.only_the_head_is_new(model, fine)
    for key, value in (
        ("missing_keys", "bert.pooler.dense.weight"),
        ("unexpected_keys", "x"),
        ("mismatched_keys", "y"),
    ):
        assert not pretrained.only_the_head_is_new(model, {**fine, key: [value]})
