"""What a peft checkpoint can hold beside the adapters' weights, and checkpoints that need more than a config."""

import json

import pytest
import torch
from hosts import batch, stir
from peft_twin import record
from safetensors.torch import save_file
from test_interop import EMBEDDING, LORA, TARGETS, apart, lively, logits, peft, same_text, theirs_of
from torch import nn

from peft_from_scratch import LoRA, adapters, inject, remove, trained
from peft_from_scratch.interop import from_peft_config, load_peft, save_peft
from peft_from_scratch.methods.lowrank.alora import invoked
from peft_from_scratch.methods.lowrank.bdlora import BDLoRA
from peft_from_scratch.methods.lowrank.hira import HiRA
from peft_from_scratch.methods.lowrank.starts.pissa import pissa
from peft_from_scratch.methods.mixture.tasks import task_ids
from peft_from_scratch.methods.mixture.xlora import XLoRABody

pytestmark = pytest.mark.filterwarnings("ignore")
hosts = pytest.mark.parametrize("name", TARGETS)


def both_ways(name, given, tmp_path, **more):
    """In, and out again with other numbers; returns ours."""
    theirs = theirs_of(name, given)
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    assert apart(ours, theirs, name) <= 1e-5 and same_text(ours, theirs, name)
    assert apart(ours, lively(name), name) >= 1e-4
    stir(trained(ours).values(), std=0.1, seed=5)
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    assert apart(ours, back, name) <= 1e-5 and same_text(ours, back, name)
    return ours


@hosts
def test_ranks_and_layers_by_pattern(name, tmp_path):
    first = TARGETS[name][0]
    given = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=TARGETS[name], rank_pattern={first: 6}, alpha_pattern={first: 9},
        layers_to_transform=[1], fan_in_fan_out=name == "gpt2",
    )  # fmt: skip
    ours = both_ways(name, given, tmp_path)
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    record("Ranks by pattern", "peft 0.21.2", apart(ours, back, name))
    found = {site: (a.rank, a.alpha) for site, a in adapters(ours)}
    assert set(found.values()) == {(6, 9), (3, 5)} and all(".1." in site for site in found)


def test_layers_by_the_name_of_their_list_and_modules_left_out(tmp_path):
    given = peft.LoraConfig(
        r=3, target_modules=TARGETS["bert"], layers_to_transform=0, layers_pattern="layer", exclude_modules=["value"]
    )
    ours = both_ways("bert", given, tmp_path)
    names = ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.intermediate.dense"]
    assert [site for site, _ in adapters(ours)] == names


@hosts
@pytest.mark.parametrize("target", ["all-linear", "pattern"])
def test_all_linear_and_one_pattern(name, target, tmp_path):
    target = r".*\.(q|c_attn|q_proj|query)" if target == "pattern" else target
    both_ways(name, peft.LoraConfig(r=3, target_modules=target, fan_in_fan_out=name == "gpt2"), tmp_path)


def test_all_linear_from_a_config_is_peft_s_which_has_the_pooler():
    ours = from_peft_config(
        lively("bert"), {"peft_type": "LORA", "target_modules": "all-linear", "task_type": "SEQ_CLS"}
    )
    theirs = peft.get_peft_model(lively("bert"), peft.LoraConfig(target_modules="all-linear", task_type="SEQ_CLS"))
    sites = {site for site, a in adapters(ours) if isinstance(a, LoRA)}
    assert sites == {n for n, m in theirs.base_model.model.named_modules() if hasattr(m, "lora_A")}
    assert "bert.pooler.dense" in sites and "classifier" in dict(adapters(ours))


@hosts
def test_heads_that_train_in_full(name, tmp_path):
    head = {"bert": "classifier", "gpt2": "ln_f", "llama": "lm_head", "t5": "lm_head"}[name]
    given = peft.LoraConfig(
        r=3, target_modules=TARGETS[name], modules_to_save=[head], fan_in_fan_out=name == "gpt2",
        task_type="SEQ_CLS" if name == "bert" else None,
    )  # fmt: skip
    ours = both_ways(name, given, tmp_path)
    assert any(site.endswith(head) for site, _ in adapters(ours))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("dora", [False, True])
def test_embeddings(name, dora, tmp_path):
    """peft adds the base's own embedding to such a file."""
    given = peft.LoraConfig(
        r=3, target_modules=[*TARGETS[name], EMBEDDING[name]], use_dora=dora, fan_in_fan_out=name == "gpt2"
    )
    both_ways(name, given, tmp_path)


@hosts
def test_rows_of_the_embedding(name, tmp_path):
    """In any order; GPT-2's and T5's head is tied to it."""
    theirs = theirs_of(name, peft.TrainableTokensConfig(token_indices=[5, 2, 40], target_modules=[EMBEDDING[name]]))
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    assert apart(ours, theirs, name) <= 1e-5 and same_text(ours, theirs, name)
    stir(trained(ours).values(), std=0.5, seed=5)
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    assert apart(ours, back, name) <= 1e-5
    given = batch(name) | {"input_ids": torch.tensor([[5, 2, 40]] * 3)}
    given = {"input_ids": given["input_ids"]} | ({"decoder_input_ids": given["input_ids"]} if name == "t5" else {})
    with torch.no_grad():
        y = ours(**given).logits
        assert (y - back(**given).logits).abs().max() <= 1e-5 * y.abs().max().clamp_min(1)
        assert (y - lively(name)(**given).logits).abs().max() > 1e-3


@hosts
@pytest.mark.parametrize("as_list", [True, False])
def test_rows_beside_lora(name, as_list, tmp_path):
    rows = [7, 3, 50]
    given = peft.LoraConfig(
        r=3, target_modules=TARGETS[name], trainable_token_indices=rows if as_list else {EMBEDDING[name]: rows},
        fan_in_fan_out=name == "gpt2",
    )  # fmt: skip
    both_ways(name, given, tmp_path)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_of_the_base(bias, tmp_path):
    ours = both_ways("bert", peft.LoraConfig(r=3, target_modules=["query", "value"], bias=bias), tmp_path)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["bias"] == bias
    assert sum(k.endswith(".bias") for k in trained(ours)) == {"all": 19, "lora_only": 4}[bias]
    with pytest.raises(ValueError, match="train in place"):
        remove(ours)


def test_blocks(tmp_path):
    blocks = LORA.BdLoraConfig(
        target_modules_bd_a=["down_proj"], target_modules_bd_b=["q_proj"], nblocks=2, match_strict=False
    )
    ours = both_ways("llama", peft.LoraConfig(r=4, target_modules=TARGETS["llama"], use_bdlora=blocks), tmp_path)
    assert {a.diagonal for _, a in adapters(ours) if isinstance(a, BDLoRA)} == {"A", "B"}


def test_alora(tmp_path):
    given = peft.LoraConfig(r=3, target_modules=TARGETS["llama"], alora_invocation_tokens=[5, 9], task_type="CAUSAL_LM")
    theirs = theirs_of("llama", given)
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively("llama"), tmp_path / "in").eval()
    ids = batch("llama")["input_ids"]
    ids[:2, 3:5] = torch.tensor([5, 9])
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively("llama"), tmp_path / "out").eval()
    with torch.no_grad(), invoked(ours, ids):
        y = ours(input_ids=ids).logits
        for other in (theirs, back):
            assert (y - other(input_ids=ids).logits).abs().max() <= 1e-5
        assert (y - lively("llama")(input_ids=ids).logits).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_poly(name, tmp_path):
    theirs = theirs_of(name, peft.PolyConfig(r=3, n_tasks=3, n_skills=2, n_splits=2, target_modules=TARGETS[name]))
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    ids = torch.tensor([2, 0, 2])
    for other in (theirs, back):
        with task_ids(ours, ids), other.base_model._manage_pre_hooks(ids):
            assert apart(ours, other, name) <= 1e-5


def test_an_adalora_whose_ranks_were_pruned(tmp_path):
    theirs = theirs_of(
        "bert", peft.AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["query", "value"])
    )
    layers = {n: m for n, m in theirs.base_model.model.named_modules() if hasattr(m, "lora_E")}
    kept = {f"{n}.lora_E.default": [i % 2 == 0, True, False, i == 1] for i, n in enumerate(layers)}
    with torch.no_grad():
        for layer, mask in zip(layers.values(), kept.values(), strict=True):
            layer.lora_E["default"][~torch.tensor(mask)] = 0
    theirs.peft_config["default"].rank_pattern = kept
    expected = logits(theirs, "bert")
    theirs.save_pretrained(tmp_path)
    ours = load_peft(lively("bert"), tmp_path).eval()
    assert (logits(ours, "bert") - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("rslora", [False, True])
def test_a_start_that_is_taken_off_is_written_as_twice_the_rank(rslora, tmp_path):
    ours = inject(lively("llama"), {r".*\.[qv]_proj": lambda b: LoRA(b, 3, alpha=7, rslora=rslora, start=pissa)}).eval()
    stir(trained(ours).values(), std=0.1)
    save_peft(ours, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 6
    back = peft.PeftModel.from_pretrained(lively("llama"), tmp_path).eval()
    assert apart(ours, back, "llama") <= 1e-5 and apart(ours, lively("llama"), "llama") > 1e-3


def test_a_convolution(tmp_path):
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(4, 6, (3, 2), stride=2), nn.Flatten(), nn.LazyLinear(3))

    x = torch.randn(2, 4, 9, 8)
    plain = net()
    plain(x)
    for dora in (False, True):
        model, again, third = net(), net(), net()
        for m in (model, again, third):
            m(x), m.load_state_dict(plain.state_dict())
        theirs = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "2"], use_dora=dora)).eval()
        stir([p for p in theirs.parameters() if p.requires_grad])
        theirs.save_pretrained(tmp_path / f"in {dora}")
        ours = load_peft(again, tmp_path / f"in {dora}").eval()
        assert (ours(x) - theirs(x)).abs().max() <= 1e-5 and (ours(x) - plain(x)).abs().max() > 1e-2
        save_peft(ours, tmp_path / f"out {dora}")
        back = peft.PeftModel.from_pretrained(third, tmp_path / f"out {dora}").eval()
        assert (ours(x) - back(x)).abs().max() <= 1e-5


PATTERNS = {
    "loha": (peft.LoHaConfig, dict(r=2, rank_pattern={"query": 4}, alpha_pattern={"value": 3})),
    "lokr": (peft.LoKrConfig, dict(r=1, rank_pattern={"query": 2}, alpha_pattern={"value": 3})),
    "hira, whose pattern peft forgets": (peft.HiraConfig, dict(r=2, rank_pattern={"layer.0.attention.self.query": 4})),
    "delora": (peft.DeloraConfig, dict(r=2, rank_pattern={"value": 3}, lambda_pattern={"query": 2.0})),
    "fourierft": (peft.FourierFTConfig, dict(n_frequency=20, n_frequency_pattern={"query": 50})),
    "waveft": (peft.WaveFTConfig, dict(n_frequency=20, n_frequency_pattern={"query": 50})),
    "c3a": (peft.C3AConfig, dict(block_size=2, block_size_pattern={"query": 4})),
    "osf": (peft.OSFConfig, dict(effective_rank=4, rank_pattern={"query": 0.25, "layer.1.*value": 7})),
    "bias of hra": (peft.HRAConfig, dict(r=2, bias="hra_only")),
    "bias of vera": (peft.VeraConfig, dict(r=2, bias="vera_only")),
    "all biases beside oft": (peft.OFTConfig, dict(oft_block_size=4, bias="all")),
    "head beside vblora": (peft.VBLoRAConfig, dict(r=2, num_vectors=5, vector_length=4, modules_to_save=["pooler"])),
    "head beside ia3": (peft.IA3Config, dict(feedforward_modules=[], task_type="SEQ_CLS")),
    "norms and a head": (peft.LNTuningConfig, dict(modules_to_save=["classifier"])),
    "rows beside adalora": (peft.AdaLoraConfig, dict(total_step=9, trainable_token_indices=[3, 1])),
    "layers of miss": (peft.MissConfig, dict(r=4, layers_to_transform=[1])),
}


def test_sites_with_ranks_that_peft_cannot_hold(tmp_path):
    ranks = {r".*query": lambda b: HiRA(b, 2), r".*value": lambda b: HiRA(b, 4)}
    with pytest.raises(ValueError, match="HIRA has one r for all sites"):
        save_peft(inject(lively("bert"), ranks), tmp_path)


@pytest.mark.parametrize("case", PATTERNS)
def test_patterns_heads_and_biases_of_other_types(case, tmp_path):
    make, fields = PATTERNS[case]
    targets = ["LayerNorm"] if make is peft.LNTuningConfig else ["query", "value"]
    both_ways("bert", make(target_modules=targets, **fields), tmp_path)


HEADS = {
    "default": {},
    "layerwise": dict(layerwise_scalings=True, scaling_pass_value=0.3),
    "two layers": dict(layerwise_scalings=True, xlora_depth=2, xlora_size=7, softmax_temperature=0.5),
    "best 2": dict(top_k_lora=2, enable_softmax=False, enable_softmax_topk=True, global_scaling_weight=0.7),
}


@pytest.mark.parametrize("head", HEADS)
def test_xlora(head, tmp_path):
    """peft 0.21.2 calls the experts 0, 1, ... and leaves what has such a part in its name out of the file: the gate's
    own layers. Its state, written whole, loads in both."""
    folders = {}
    for i in range(3):
        given = peft.LoraConfig(r=2 + i, lora_alpha=3 + i, target_modules=["q_proj", "down_proj"])
        expert = theirs_of("llama", given, std=0.2 + 0.1 * i)
        expert.save_pretrained(tmp_path / f"e{i}")
        folders[str(i)] = str(tmp_path / f"e{i}")
    base = lively("llama")
    base.config.use_cache = False
    config = peft.XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, adapters=folders, **HEADS[head])
    theirs = peft.get_peft_model(base, config).eval()
    stir(theirs.base_model.internal_xlora_classifier.parameters())
    theirs.save_pretrained(tmp_path / "in")
    with pytest.raises(ValueError, match="missing from the file: base_model.internal_xlora_classifier"):
        load_peft(lively("llama"), tmp_path / "in")
    gate = {k: t for k, t in theirs.state_dict().items() if "internal_xlora" in k}
    save_file(gate, tmp_path / "in" / "adapter_model.safetensors")
    ours = load_peft(lively("llama"), tmp_path / "in").eval()
    assert apart(ours, theirs, "llama") <= 1e-5 and apart(ours, lively("llama"), "llama") > 1e-3
    assert any(isinstance(a, XLoRABody) for _, a in adapters(ours))
    stir(trained(ours).values(), seed=5)
    save_peft(ours, tmp_path / "out")
    base = lively("llama")
    base.config.use_cache = False
    back = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    assert apart(ours, back, "llama") <= 1e-5
    again = load_peft(lively("llama"), tmp_path / "out").eval()
    assert apart(ours, again, "llama") <= 1e-6
