"""Hugging Face peft checkpoints in and out: every type that both sides have gives equal outputs on random weights."""

import copy

import pytest
import torch
from hosts import batch, host, stir

from peft_from_scratch import trained
from peft_from_scratch.interop import load_peft, save_peft

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # peft's; ours are asked for by name below

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "gpt2": ["c_attn", "mlp.c_proj"],
    "llama": ["q_proj", "k_proj", "v_proj", "down_proj"],
    "t5": ["q", "v", "wi", "wo"],
}
ALL = ("bert", "gpt2", "llama", "t5")
LINEAR = ("bert", "llama", "t5")
EMBEDDING = {"bert": "word_embeddings", "gpt2": "wte", "llama": "embed_tokens", "t5": "shared"}
LORA = peft.tuners.lora.config


def config(make, hosts=ALL, **fields):
    return make, hosts, fields


CASES = {
    "lora": config(peft.LoraConfig, r=3, lora_alpha=5, lora_dropout=0.1),
    "lora rslora": config(peft.LoraConfig, r=4, use_rslora=True, bias="lora_only"),
    "lora bias": config(peft.LoraConfig, ("bert",), r=3, lora_bias=True, bias="all"),
    "lora pissa": config(peft.LoraConfig, r=3, lora_alpha=5, init_lora_weights="pissa"),
    "lora olora": config(peft.LoraConfig, LINEAR, r=3, init_lora_weights="olora"),
    "lora mica": config(peft.LoraConfig, LINEAR, r=3, init_lora_weights="mica"),
    "lora gaussian": config(peft.LoraConfig, r=3, init_lora_weights="gaussian"),
    "lora orthogonal": config(peft.LoraConfig, LINEAR, r=4, init_lora_weights="orthogonal"),
    "dora": config(peft.LoraConfig, r=3, use_dora=True),
    "dora pissa": config(peft.LoraConfig, ("llama",), r=3, use_dora=True, init_lora_weights="pissa"),
    "kasa": config(peft.LoraConfig, LINEAR, r=3, kasa_config=LORA.KasaConfig()),
    "monteclora": config(peft.LoraConfig, LINEAR, r=3, monteclora_config=LORA.MontecloraConfig(num_samples=3)),
    "velora": config(peft.LoraConfig, LINEAR, r=3, velora_config=LORA.VeloraConfig(num_groups=4, init_type="random")),
    "adalora": config(peft.AdaLoraConfig, init_r=5, lora_alpha=30, total_step=9),
    "loha": config(peft.LoHaConfig, LINEAR, r=3, alpha=5),
    "lokr": config(peft.LoKrConfig, LINEAR, r=2, alpha=5),
    "lokr both split": config(peft.LoKrConfig, LINEAR, r=1, decompose_both=True, decompose_factor=8),
    "hira": config(peft.HiraConfig, r=3),
    "deft": config(peft.DeftConfig, r=3),
    "deft qr": config(peft.DeftConfig, r=3, decomposition_method="qr", alpha=6),
    "deft para": config(peft.DeftConfig, r=2, para=True),
    "delora": config(peft.DeloraConfig, LINEAR, r=3, delora_lambda=2.0),
    "gralora": config(peft.GraloraConfig, r=4, hybrid_r=2),
    "glora": config(peft.GloraConfig, LINEAR, r=3),
    "glora vector": config(peft.GloraConfig, ("bert",), config_A_B="vector", config_C="vector", config_D_E="vector"),
    "miss": config(peft.MissConfig, LINEAR, r=4),
    "miss mini": config(peft.MissConfig, LINEAR, r=4, mini_r=2, init_weights="mini"),
    "miss bat": config(peft.MissConfig, LINEAR, r=2, init_weights="bat"),
    "peanut": config(peft.PeanutConfig, LINEAR, r=4, depth=1, act_fn="gelu", scaling=0.7),
    "psoft": config(peft.PsoftConfig, LINEAR, r=4),
    "psoft symmetric": config(peft.PsoftConfig, LINEAR, r=4, ab_svd_init="pissa_init", use_cayley_neumann=True),
    "vera": config(peft.VeraConfig, r=6, projection_prng_key=3, d_initial=0.2),
    "vera from its seed": config(peft.VeraConfig, r=6, projection_prng_key=3, save_projection=False),
    "pvera": config(peft.PveraConfig, r=6, projection_prng_key=3),
    "randlora": config(peft.RandLoraConfig, r=5, randlora_alpha=2, projection_prng_key=3),
    "randlora from its seed": config(peft.RandLoraConfig, r=5, randlora_alpha=2, save_projection=False),
    "randlora very sparse": config(peft.RandLoraConfig, r=5, randlora_alpha=2, very_sparse=True),
    "tinylora": config(peft.TinyLoraConfig, r=3, u=4, weight_tying=0.5),
    "tinylora from its seed": config(peft.TinyLoraConfig, r=3, u=4, projection_seed=5, save_projection=False),
    "unilora": config(peft.UniLoraConfig, r=3, theta_d_length=37, proj_seed=9),
    "unilora with indices": config(peft.UniLoraConfig, ("llama",), r=3, theta_d_length=37, save_indices=True),
    "vblora": config(peft.VBLoRAConfig, r=3, num_vectors=7, vector_length=2, topk=3),
    "vblora best": config(peft.VBLoRAConfig, r=3, num_vectors=7, vector_length=2, topk=3, save_only_topk_weights=True),
    "frod": config(peft.FrodConfig, sparse_rate=0.05, progressbar=False),
    "frod from the base": config(
        peft.FrodConfig, ("bert", "gpt2", "llama"), sparse_rate=0.05, progressbar=False, save_projection=False
    ),
    "lily": config(peft.LilyConfig, LINEAR, r=4, num_B=2, stride_A=2),
    "oft": config(peft.OFTConfig, LINEAR, oft_block_size=4),
    "oft exact": config(peft.OFTConfig, LINEAR, r=2, oft_block_size=0, use_cayley_neumann=False, block_share=True),
    "coft": config(peft.OFTConfig, LINEAR, oft_block_size=4, coft=True, eps=0.3),
    "boft": config(peft.BOFTConfig, LINEAR, boft_block_size=4),
    "hra": config(peft.HRAConfig, LINEAR, r=4),
    "hra orthogonal": config(peft.HRAConfig, LINEAR, r=3, apply_GS=True, init_weights=False),
    "road": config(peft.RoadConfig, ("bert", "llama"), group_size=8, variant="road_2"),
    "ia3": config(peft.IA3Config),
    "fourierft": config(peft.FourierFTConfig, n_frequency=50),
    "waveft": config(peft.WaveFTConfig, n_frequency=50, wavelet_family="db2"),
    "waveft without": config(peft.WaveFTConfig, n_frequency=50, use_idwt=False),
    "c3a": config(peft.C3AConfig, LINEAR, block_size=2),
    "ln_tuning": config(peft.LNTuningConfig),
    "beft": config(peft.BeftConfig, LINEAR),
    "shira": config(peft.ShiraConfig, LINEAR, r=2, random_seed=7),
    "supertuning": config(peft.SupertuningConfig, LINEAR, sparsity=0.7),
    "supertuning with rank": config(peft.SupertuningConfig, LINEAR, sparsity=0.7, select_top=False, r=2),
    "osf": config(peft.OSFConfig, LINEAR, effective_rank=5),
}
NORMS = {"bert": ["LayerNorm"], "gpt2": ["ln_1", "ln_f"], "llama": ["input_layernorm", "norm"], "t5": ["layer_norm"]}
FEED_FORWARD = {"bert": ["output.dense"], "gpt2": ["mlp.c_proj"], "llama": ["down_proj"], "t5": ["wo"]}
runs = pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case, (_, names, _) in CASES.items() for name in names]
)


def of(case, name, **more):
    make, _, fields = CASES[case]
    fields = {"target_modules": TARGETS[name]} | copy.deepcopy(fields) | more
    if case == "ln_tuning":
        fields["target_modules"] = NORMS[name]
    if case == "ia3":
        fields = {"target_modules": [*TARGETS[name], *FEED_FORWARD[name]], "feedforward_modules": FEED_FORWARD[name]}
    if case == "frod" or hasattr(make(**fields), "fan_in_fan_out"):
        fields["fan_in_fan_out"] = name == "gpt2"
    return make(**fields)


def lively(name):
    """A host whose answers feel what is done inside: BERT's start out near zero."""
    model = host(name)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4 if p.dim() > 1 and name == "bert" else 1)
    return model


def theirs_of(name, given, std=0.2):
    """A peft model with everything that trains moved at random."""
    torch.manual_seed(0)
    model = peft.get_peft_model(lively(name), given).eval()
    stir([p for p in model.parameters() if p.requires_grad], std=std)
    return model


def logits(model, name):
    """Without labels: with them a loaded AdaLoRA of peft 0.21.2 asks for the adapter that trains, and fails."""
    given = batch(name)
    labels = given.pop("labels")
    given |= {"decoder_input_ids": labels} if name == "t5" else {}
    with torch.no_grad():
        return model(**given).logits


def apart(a, b, name):
    """The largest difference of the logits, in units of their size."""
    y, z = logits(a, name), logits(b, name)
    return ((y - z).abs().max() / y.abs().max().clamp_min(1)).item()


def same_text(a, b, name):
    if name == "bert":
        return True
    given = {k: batch(name)[k] for k in ("input_ids", "attention_mask")}
    kw = dict(max_new_tokens=6, do_sample=False, pad_token_id=0)
    return torch.equal(a.generate(**given, **kw), b.generate(**given, **kw))


@runs
def test_in_and_out(case, name, tmp_path):
    theirs = theirs_of(name, of(case, name), std=0.02 if "frod" in case else 0.2)
    theirs.save_pretrained(tmp_path / "in")
    ours = load_peft(lively(name), tmp_path / "in").eval()
    assert apart(ours, theirs, name) <= 1e-5 and same_text(ours, theirs, name)
    assert apart(ours, lively(name), name) >= 1e-4, "the adapter must matter"

    stir(trained(ours).values(), std=0.01 if "frod" in case else 0.1, seed=5)  # not the numbers that peft has written
    save_peft(ours, tmp_path / "out")
    back = peft.PeftModel.from_pretrained(lively(name), tmp_path / "out").eval()
    assert apart(ours, back, name) <= 1e-5 and same_text(ours, back, name)
    assert apart(ours, theirs, name) >= 1e-5, "the second round must be another adapter"
