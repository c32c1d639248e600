"""Prompts, prefixes, LLaMA-Adapter and Shadow: peft's checkpoints in and out, equal outputs and equal text."""

import contextlib
import copy
import json
import warnings

import pytest
import torch
from hosts import batch, stir
from safetensors.torch import load_file, save_file
from test_interop import lively, peft
from transformers import (
    BertModel,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from peft_from_scratch import Replaced, adapters, inject, switch, trained
from peft_from_scratch.interop import from_peft_config, load_peft, save_peft
from peft_from_scratch.methods.prompts.llama_adapter import llama_adapter
from peft_from_scratch.methods.prompts.multitask import MultitaskPrompt, prompt_tasks
from peft_from_scratch.methods.prompts.prefix_tuning import prefix_tuning
from peft_from_scratch.methods.prompts.prompt_tuning import PromptTuning, prompt_tuning
from peft_from_scratch.methods.representation.shadow import ShadowBlock, shadow

pytestmark = pytest.mark.filterwarnings("ignore")
TASKS = {"bert": "SEQ_CLS", "gpt2": "CAUSAL_LM", "llama": "CAUSAL_LM", "t5": "SEQ_2_SEQ_LM"}
ALL, DECODERS, CAUSAL = tuple(TASKS), ("bert", "gpt2", "llama"), ("gpt2", "llama")
N, IDS = 5, torch.tensor([2, 0, 1])
OF_T5 = dict(token_dim=30)  # peft takes d_model for the width of a key, which it is not here
CPT = dict(cpt_token_ids=[3, 4, 5, 6, 7, 8], cpt_mask=[1] * 6, cpt_tokens_type_mask=[1, 2, 4, 5, 7, 8])

CASES = {  # config, hosts, fields
    "prompt": (peft.PromptTuningConfig, ALL, dict(num_virtual_tokens=N)),
    "prompt, vocabulary": (
        peft.PromptTuningConfig, ("llama",), dict(num_virtual_tokens=N, prompt_tuning_init="SAMPLE_VOCAB")
    ),
    "p-tuning": (peft.PromptEncoderConfig, ALL, dict(num_virtual_tokens=N, encoder_hidden_size=6)),
    "p-tuning, lstm": (
        peft.PromptEncoderConfig,
        ALL,
        dict(num_virtual_tokens=N, encoder_hidden_size=6, encoder_reparameterization_type="LSTM", encoder_num_layers=1),
    ),
    "multitask": (
        peft.MultitaskPromptTuningConfig,
        ALL,
        dict(num_virtual_tokens=N, num_tasks=3, num_ranks=2, num_transformer_submodules=1),
    ),
    "cpt": (peft.CPTConfig, CAUSAL, CPT | dict(opt_projection_epsilon=0.5, opt_projection_format_epsilon=0.2)),
    "prefix": (peft.PrefixTuningConfig, ALL, dict(num_virtual_tokens=N)),
    "prefix, projected": (
        peft.PrefixTuningConfig, ALL, dict(num_virtual_tokens=N, prefix_projection=True, encoder_hidden_size=7)
    ),
    "prefix, zero": (peft.PrefixTuningConfig, DECODERS, dict(num_virtual_tokens=N, init_weights="zero")),
    "cartridge": (peft.CartridgeConfig, ALL, dict(num_virtual_tokens=N, num_frozen_tokens=2)),
    "cartridge, all trained": (peft.CartridgeConfig, DECODERS, dict(num_virtual_tokens=N, num_frozen_tokens=0)),
    "llama-adapter": (peft.AdaptionPromptConfig, CAUSAL, dict(adapter_len=N, adapter_layers=2)),
    "llama-adapter, top layer": (peft.AdaptionPromptConfig, CAUSAL, dict(adapter_len=N, adapter_layers=1)),
    "shadow": (peft.ShadowConfig, CAUSAL, dict(r=3)),
    "shadow, deeper": (
        peft.ShadowConfig,
        CAUSAL,
        dict(r=3, shadow_alpha=0.7, update_hidden_size=5, shadow_num_hidden_layers=2, shadow_dropout=0.0),
    ),
}  # fmt: skip
runs = pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case, (_, names, _) in CASES.items() for name in names]
)


def of(case, name):
    make, _, fields = CASES[case]
    cached = make in (peft.PrefixTuningConfig, peft.CartridgeConfig)
    return make(task_type=TASKS[name], **copy.deepcopy(fields), **(OF_T5 if name == "t5" and cached else {}))


def theirs_of(case, name, std=0.3):
    torch.manual_seed(0)
    model = peft.get_peft_model(lively(name), of(case, name)).eval()
    stir([p for p in model.parameters() if p.requires_grad], std=std)
    return model


def tasks_of(model):
    """What tells the model which task each row is, in its own way."""
    if isinstance(model, peft.PeftModel):
        ours, theirs = contextlib.nullcontext(), {"task_ids": IDS}
        return ours, theirs if model.active_peft_config.peft_type == "MULTITASK_PROMPT_TUNING" else {}
    multi = any(isinstance(a, MultitaskPrompt) for _, a in adapters(model))
    return (prompt_tasks(model, IDS) if multi else contextlib.nullcontext()), {}


def logits(model, name):
    """Of the text's positions: peft gives the prompt's too, and a T5 needs its labels there."""
    given = batch(name)
    labels = given.pop("labels")
    given |= {"labels": labels} if name == "t5" else {}
    context, more = tasks_of(model)
    with torch.no_grad(), context:
        out = model(**given, **more).logits
    return out if name == "bert" else out[:, -labels.shape[1] :]


def text(model, name):
    ids = batch(name)["input_ids"]
    given = dict(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6, pad_token_id=0)
    slow = any(isinstance(a, ShadowBlock) for _, a in adapters(model))  # ours keeps no cache, peft's keeps two
    context, more = tasks_of(model)
    with context:
        return model.generate(**given, **more, **(dict(use_cache=False) if slow else {}))


def equal(ours, theirs, name):
    y, z = logits(ours, name), logits(theirs, name)
    assert (y - z).abs().max() <= 1e-5 * y.abs().max().clamp_min(1)
    assert name == "bert" or torch.equal(text(ours, name), text(theirs, name))
    return y


@runs
def test_in_and_out(case, name, tmp_path):
    theirs = theirs_of(case, name)
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    first = equal(ours, theirs, name)
    assert (first - lively(name)(**batch(name)).logits).abs().max() > 1e-3, "the adapter must matter"

    stir(trained(ours).values(), std=0.1, seed=5)
    save_peft(ours, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?s).*(missing|unexpected|Unexpected).*(key|keyword)")
        back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    second = equal(ours, back, name)
    assert (first - second).abs().max() >= 1e-5, "the second round must be another adapter"


@runs
def test_a_config_alone_gives_the_same_adapters(case, name, tmp_path):
    """With as many numbers to train as peft, but for its T5 prompts, of which the decoder's half is never used."""
    given = of(case, name)
    theirs = peft.get_peft_model(lively(name), given)
    given.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    ours = from_peft_config(lively(name), config)
    count = sum(p.numel() for p in trained(ours).values())
    expected = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    if name == "t5" and case.startswith(("prompt", "p-tuning")):
        expected -= N * 24
    if case.startswith("shadow") and name == "gpt2":  # and the small GPT-2's own table
        expected -= 61 * 24
    assert count == expected
    with torch.device("meta"):
        plain = lively(name)
    meta = from_peft_config(plain, config)
    assert {k: p.shape for k, p in trained(meta).items()} == {k: p.shape for k, p in trained(ours).items()}
    stir(trained(ours).values())
    save_peft(ours, tmp_path / "out")
    equal(ours.eval(), peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval(), name)


def t5_of(layers):
    torch.manual_seed(0)
    shape = dict(d_model=24, num_heads=3, d_kv=10, d_ff=40, vocab_size=61, decoder_start_token_id=0, pad_token_id=0)
    return T5ForConditionalGeneration(T5Config(**shape, num_layers=layers)).eval()


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_every_layer_of_a_t5_keeps_its_own_prefix_in_peft(layers, tmp_path):
    """Though peft 0.21.2 gives layer i the pair 2 i of its file, counted round."""
    ours = inject(t5_of(layers), prefix_tuning(t5_of(layers), N, std=1.0)).eval()
    save_peft(ours, tmp_path)
    back = peft.PeftModel.from_pretrained(t5_of(layers), tmp_path).eval()
    equal(ours, back, "t5")
    again = load_peft(t5_of(layers), tmp_path)
    assert torch.equal(again.decoder.P, ours.decoder.P)


@pytest.mark.parametrize("trains_head", [True, False])
def test_a_classifier_s_head_is_in_the_file_whether_it_trains_or_not(trains_head, tmp_path):
    """peft asks for it there."""
    targets = prompt_tuning(lively("bert"), N) | ({"classifier": Replaced} if trains_head else {})
    ours = inject(lively("bert"), targets).eval()
    stir(trained(ours).values())
    save_peft(ours, tmp_path)
    assert "base_model.classifier.weight" in load_file(tmp_path / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS" and "target_modules" not in config
    equal(ours, peft.PeftModel.from_pretrained(lively("bert"), tmp_path).eval(), "bert")
    equal(ours, load_peft(lively("bert"), tmp_path).eval(), "bert")


def roberta():
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, vocab_size=61)
    torch.manual_seed(0)
    return RobertaForSequenceClassification(RobertaConfig(**shape, max_position_embeddings=32)).eval()


def test_a_roberta_classifier_reads_the_prompt_as_in_peft(tmp_path):
    """A classifier outside the body takes the first position; `cut = False` leaves that to the prompt."""
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=N)
    theirs = peft.get_peft_model(roberta(), config).eval()
    stir(theirs.prompt_encoder.parameters())
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(roberta(), tmp_path / "in").eval()
    assert ours.roberta.cut is False
    ids = torch.randint(3, 61, (3, 7))
    assert (ours(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() <= 1e-6
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(roberta(), tmp_path / "out").eval()
    assert (ours(input_ids=ids).logits - back(input_ids=ids).logits).abs().max() <= 1e-6
    with pytest.raises(ValueError, match="cut = False"):
        save_peft(inject(roberta(), prompt_tuning(roberta(), N)), tmp_path / "no")


def test_a_body_alone(tmp_path):
    """The adapter is the model itself then, and peft's task the extraction of features."""
    body = lambda: lively("bert").bert  # noqa: E731
    theirs = peft.get_peft_model(
        body(), peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=N)
    ).eval()
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(body(), tmp_path / "in").eval()
    assert isinstance(ours, PromptTuning) and isinstance(ours.base, BertModel)
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(body(), tmp_path / "out").eval()
    ids = batch("bert")["input_ids"]
    for other in (theirs, back):
        h = other(input_ids=ids).last_hidden_state[:, N:]
        assert (ours(input_ids=ids).last_hidden_state - h).abs().max() <= 1e-5


def llama_classifier():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(lively("llama").config).eval()


@pytest.mark.parametrize("case", ["prompt", "prefix", "shadow"])
def test_a_decoder_that_classifies(case, tmp_path):
    """It reads the last position of a text. Shadow's second head there is for peft's auxiliary loss alone."""
    make, _, fields = CASES[case]
    theirs = peft.get_peft_model(llama_classifier(), make(task_type="SEQ_CLS", **fields)).eval()
    stir([p for p in theirs.parameters() if p.requires_grad])
    theirs.save_pretrained(tmp_path / "in")
    with pytest.warns(UserWarning, match="shadow_head") if case == "shadow" else contextlib.nullcontext():
        ours = load_peft(llama_classifier(), tmp_path / "in").eval()
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(llama_classifier(), tmp_path / "out").eval()
    ids = batch("llama")["input_ids"]
    for other in (theirs, back):
        assert (ours(input_ids=ids).logits - other(input_ids=ids).logits).abs().max() <= 1e-5
    assert (ours(input_ids=ids).logits - llama_classifier()(input_ids=ids).logits).abs().max() > 1e-3


def test_several_prompts_on_one_model(tmp_path):
    for i, case in enumerate(("prompt", "prefix")):
        theirs_of(case, "llama", std=0.2 + i).save_pretrained(tmp_path / case)
    alone = {case: load_peft(lively("llama"), tmp_path / case).eval() for case in ("prompt", "prefix")}
    both = load_peft(load_peft(lively("llama"), tmp_path / "prompt", "prompt"), tmp_path / "prefix", "prefix").eval()
    for case, one in alone.items():
        both = switch(both, case)
        equal(both, one, "llama")
        save_peft(both, tmp_path / f"{case} again", case)
        equal(load_peft(lively("llama"), tmp_path / f"{case} again").eval(), one, "llama")


def test_a_prompt_beside_another_method(tmp_path):
    """In peft one model has a prompt or weights' adapters; here one after the other, by name."""
    theirs_of("prompt", "llama").save_pretrained(tmp_path / "prompt")
    model = from_peft_config(lively("llama"), {"peft_type": "LORA", "target_modules": ["q_proj"]}, "lora")
    model = load_peft(model, tmp_path / "prompt", "prompt").eval()
    equal(model, load_peft(lively("llama"), tmp_path / "prompt").eval(), "llama")


@pytest.mark.parametrize(
    ("case", "name", "fields", "words"),
    [
        ("prompt", "llama", dict(token_dim=16), "token_dim=16, and this model's embeddings have 32"),
        ("prompt", "llama", dict(num_virtual_tokens=0), "at least one token"),
        ("prompt", "llama", dict(num_virtual_tokens=4), r"the file has shape \(5, 32\), the model needs \(4, 32\)"),
        ("prompt", "llama", dict(target_modules=["q_proj"]), r"nothing for target_modules"),
        ("prompt", "llama", dict(bias="all"), "trains no biases"),
        ("prompt", "llama", dict(soft_field=2), "nothing for soft_field=2"),
        ("multitask", "t5", dict(num_transformer_submodules=2), "train with 1"),
        ("multitask", "llama", dict(num_tasks=4), "the file has shape"),
        ("prefix", "llama", dict(num_layers=3), "num_layers=3, and this model's cache has 2"),
        ("prefix", "llama", dict(num_attention_heads=4), "num_attention_heads=4, and this model's cache has 2"),
        ("prefix", "t5", dict(num_transformer_submodules=1), "with 2 alone"),
        ("cartridge", "llama", dict(num_frozen_tokens=5), "n_frozen must be from 0"),
        ("cpt", "llama", dict(opt_projection_epsilon=0.01, opt_projection_format_epsilon=0.01), "too far from"),
        ("llama-adapter", "llama", dict(adapter_layers=3), "adapter_layers=3, and this model has 2 modules"),
        ("llama-adapter", "llama", dict(target_modules="attn"), "has 0 modules called attn"),
        ("llama-adapter", "llama", dict(modules_to_save=["lm_head"]), "nothing for modules_to_save"),
        ("shadow", "llama", dict(share_embeddings=False), "share_embeddings=True alone"),
        ("shadow", "llama", dict(shadow_model="somewhere/else"), "shadow_model='mirror'"),
        ("shadow", "llama", dict(shadow_hidden_size=16), "nothing for shadow_hidden_size=16"),
        ("shadow", "llama", dict(target_modules=["nowhere"]), "name no module"),
    ],
)
def test_fields_that_cannot_be_honoured(case, name, fields, words, tmp_path):
    """One sentence, and the model as it was."""
    theirs_of(case, name).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    model = lively(name)
    modules, before = dict(model.named_modules()), {k: p.requires_grad for k, p in model.named_parameters()}
    with pytest.raises(ValueError, match=words):
        load_peft(model, tmp_path)
    assert dict(model.named_modules()) == modules
    assert {k: p.requires_grad for k, p in model.named_parameters()} == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (dict(peft_type="PROMPT_TUNING", num_virtual_tokens=3, prompt_tuning_init="TEXT"), "starts from a text"),
        (
            dict(peft_type="MULTITASK_PROMPT_TUNING", num_virtual_tokens=3, prompt_tuning_init="AVERAGE_SOURCE_TASKS"),
            "starts from a text or a file",
        ),
        (
            dict(peft_type="P_TUNING", num_virtual_tokens=3, encoder_dropout=0.1,
                 encoder_reparameterization_type="LSTM"),
            "encoder_dropout=0.1",
        ),
        (dict(peft_type="PROMPT_TUNING"), "at least one token"),
        (dict(peft_type="PREFIX_TUNING"), "n_tokens must be at least 1"),
        (dict(peft_type="ADAPTION_PROMPT", adapter_layers=1), "n_tokens must be at least 1"),
        (dict(peft_type="ADAPTION_PROMPT", adapter_len=1), "adapter_layers=None"),
        (dict(peft_type="SHADOW", init_weights=False), "random start"),
    ],
)  # fmt: skip
def test_configs_that_do_not_say_enough(config, words):
    with pytest.raises(ValueError, match=words):
        from_peft_config(lively("llama"), config)


def test_cpt_is_for_decoders():
    with pytest.raises(ValueError, match="decoder-only"):
        from_peft_config(lively("t5"), dict(peft_type="CPT", **CPT))


@pytest.mark.parametrize(
    ("name", "targets", "words"),
    [
        ("gpt2", lambda m: llama_adapter(m, N), "inject with project=False"),
        ("llama", lambda m: {r"model\.layers\.0\.self_attn": llama_adapter(m, N).popitem()[1]}, "topmost layers"),
        (
            "llama",
            lambda m: shadow(m, r"model\.layers\.\d+") | prompt_tuning(m, N),
            "no type for a model with PromptTuning",
        ),
    ],
)
def test_what_peft_computes_otherwise_is_not_written(name, targets, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        save_peft(inject(lively(name), targets(lively(name))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shadow_over_some_blocks(tmp_path):
    """peft takes blocks that follow each other."""
    config = copy.deepcopy(lively("llama").config)
    config.num_hidden_layers = 3

    def deep():
        torch.manual_seed(0)
        return type(lively("llama"))(config).eval()

    given = peft.ShadowConfig(r=3, task_type="CAUSAL_LM", target_modules=["layers.1", "layers.2"])
    theirs = peft.get_peft_model(deep(), given).eval()
    stir([p for p in theirs.parameters() if p.requires_grad])
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(deep(), tmp_path / "in").eval()
    equal(ours, theirs, "llama")
    save_peft(ours, tmp_path / "out")
    equal(ours, peft.PeftModel.from_pretrained(deep(), tmp_path / "out").eval(), "llama")
    with pytest.raises(ValueError, match="follow each other"):
        save_peft(inject(deep(), shadow(deep(), r"model\.layers\.[02]")), tmp_path / "no")


def test_files_whose_tensors_do_not_fit(tmp_path):
    theirs_of("multitask", "llama").save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    whole = load_file(path)
    save_file({k: t for k, t in whole.items() if k != "prefix_task_rows"}, path)
    with pytest.raises(ValueError, match="missing from the file: prefix_task_rows"):
        load_peft(lively("llama"), tmp_path)
    save_file(whole | {"lora": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not in the model: lora"):
        load_peft(lively("llama"), tmp_path)
