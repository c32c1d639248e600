"""How many numbers each method trains on real models: exact, on the meta device, from configurations written out here.

The figures are those that Hugging Face peft's documentation prints, those of papers, and a table of the course's own
model; each stands here once. A head that trains in full is counted with its adapters.
"""

from functools import partial

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from peft_from_scratch import LoRA, Replaced, bitfit, inject, trained
from peft_from_scratch.methods.adapters.compacter import compacter
from peft_from_scratch.methods.adapters.houlsby import houlsby
from peft_from_scratch.methods.adapters.ia3 import IA3
from peft_from_scratch.methods.adapters.invertible import invertible
from peft_from_scratch.methods.adapters.mam import mam
from peft_from_scratch.methods.adapters.parallel import parallel
from peft_from_scratch.methods.adapters.pfeiffer import pfeiffer
from peft_from_scratch.methods.adapters.unipelt import unipelt
from peft_from_scratch.methods.lowrank import pvera, randlora, said, tinylora, unilora, vblora, vera
from peft_from_scratch.methods.lowrank.adalora import AdaLoRA
from peft_from_scratch.methods.lowrank.dora import DoRA
from peft_from_scratch.methods.lowrank.krona import KronA
from peft_from_scratch.methods.lowrank.loha import LoHa
from peft_from_scratch.methods.lowrank.lokr import LoKr
from peft_from_scratch.methods.lowrank.loraxs import LoRAXS
from peft_from_scratch.methods.prompts.llama_adapter import llama_adapter
from peft_from_scratch.methods.prompts.p_tuning import p_tuning
from peft_from_scratch.methods.prompts.prefix_tuning import prefix_tuning
from peft_from_scratch.methods.prompts.prompt_tuning import prompt_tuning
from peft_from_scratch.methods.rotation.oft import OFT
from peft_from_scratch.methods.selective.ln_tuning import ln_tuning
from peft_from_scratch.methods.selective.osf import OSF
from peft_from_scratch.methods.selective.shira import SHiRA
from peft_from_scratch.methods.selective.supertuning import SuperTuning
from peft_from_scratch.methods.selective.top_k import top_k
from peft_from_scratch.methods.transform.c3a import C3A
from peft_from_scratch.methods.transform.fourierft import FourierFT


def llama(width, layers, heads, kv_heads, feed_forward, vocabulary=32_000):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
            intermediate_size=feed_forward, vocab_size=vocabulary,
        )
    )  # fmt: skip


def opt(width, layers, heads, embedded):
    return OPTForCausalLM(
        OPTConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=4 * width,
            word_embed_proj_dim=embedded,
        )
    )  # fmt: skip


HOSTS = {
    "MiniLM": lambda: BertModel(
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    ),
    "BERT-base": lambda: BertForSequenceClassification(BertConfig()),
    "RoBERTa-base": lambda: RobertaForSequenceClassification(
        RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1)
    ),
    "ViT-B/16": lambda: ViTForImageClassification(ViTConfig(num_labels=101)),
    "Qwen2.5-3B": lambda: Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=2048, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
            intermediate_size=11_008, vocab_size=151_936,
        )
    ),
    "Llama-3.2-1B": lambda: llama(2048, 16, 32, 8, 8192, 128_256),
    "Llama-3.2-3B": lambda: llama(3072, 28, 24, 8, 8192, 128_256),
    "Llama-7B": lambda: llama(4096, 32, 32, 32, 11_008),
    "OPT-350m": lambda: opt(1024, 24, 16, 512),
    "OPT-6.7b": lambda: opt(4096, 32, 32, 4096),
    "bloomz-560m": lambda: BloomForCausalLM(BloomConfig(hidden_size=1024, n_layer=24, n_head=16, vocab_size=250_880)),
    "t5-large": lambda: T5ForConditionalGeneration(
        T5Config(d_model=1024, d_ff=4096, num_layers=24, num_heads=16, d_kv=64)
    ),
    "t5-xxl": lambda: T5ForConditionalGeneration(
        T5Config(d_model=4096, d_ff=10_240, num_layers=24, num_heads=64, d_kv=64)
    ),
    "flan-t5-large": lambda: T5ForConditionalGeneration(
        T5Config(d_model=1024, d_ff=2816, num_layers=24, num_heads=16, d_kv=64, feed_forward_proj="gated-gelu")
    ),
    "mt0-large": lambda: MT5ForConditionalGeneration(
        MT5Config(
            d_model=1024, d_ff=2816, num_layers=24, num_heads=16, d_kv=64, vocab_size=250_112,
            feed_forward_proj="gated-gelu",
        )
    ),
}  # fmt: skip


def on(sites, factory, **others):
    """A method of one factory at some sites; `others` may add a head."""
    return lambda model: inject(model, {sites: factory} | others)


def shared(page, sites, head=False, **settings):
    """A method whose sites share something: its page makes the factory."""
    more = {"classifier": Replaced} if head else {}
    return lambda model: inject(model, {sites: page.shared(model, sites, **settings)} | more)


def given(targets, *args, **settings):
    """A method that makes its targets itself."""
    return lambda model: inject(model, targets(model, *args, **settings))


def rank(r, method=LoRA):
    return lambda base: method(base, r)


QV, PROJ = r".*\.(query|value)", r".*\.(q_proj|v_proj)"
WITH_INTERMEDIATE = r".*\.(query|value|intermediate\.dense)"
SIX = r"encoder\..*\.(query|key|value|dense)"  # the linear layers of a BERT block
HEAD = {"classifier": Replaced}
PUBLISHED = [  # documentation of Hugging Face peft, and papers
    ("Qwen2.5-3B", "LoRA r16 q,v", on(PROJ, rank(16)), 3_686_400),
    ("Llama-3.2-1B", "LoRA r8 q", on(r".*\.q_proj", rank(8)), 524_288),
    ("OPT-6.7b", "LoRA r16 q,v", on(PROJ, rank(16)), 8_388_608),
    ("OPT-350m", "LoRA r16 q,v", on(PROJ, rank(16)), 1_572_864),
    ("flan-t5-large", "LoRA r16 q,v", on(r".*\.(q|v)", rank(16)), 4_718_592),
    ("bloomz-560m", "LN-tuning, not the embedding's", lambda m: ln_tuning(m, norms=r"(?!.*embeddings).*"), 100_352),
    ("bloomz-560m", "prompt 8", given(prompt_tuning, 8), 8_192),
    ("bloomz-560m", "prefix 30", given(prefix_tuning, 30), 1_474_560),
    ("bloomz-560m", "prefix 20", given(prefix_tuning, 20), 983_040),
    ("bloomz-560m", "P-tuning 20, network 128", given(p_tuning, 20, hidden=128, lstm=False), 300_288),
    ("t5-large", "prompt 20; peft says 40 960, half of them dead", given(prompt_tuning, 20), 20_480),
    ("t5-xxl", "prompt 5, Lester et al.", given(prompt_tuning, 5), 20_480),
    ("mt0-large", "IA3 k,v,wi_1, none a feed-forward layer's", on(r".*\.(k|v|wi_1)", IA3), 282_624),
    ("ViT-B/16", "LoRA r16 q,v + head of 101", on(PROJ, rank(16), **HEAD), 667_493),
    ("ViT-B/16", "AdaLoRA r12 q,v + head of 101", on(PROJ, rank(12, AdaLoRA), **HEAD), 520_325),
    ("RoBERTa-base", "FourierFT n1000 q,v + head", on(QV, rank(1000, FourierFT), **HEAD), 616_130),
    ("RoBERTa-base", "VeRA r8 q,v,intermediate + head", shared(vera, WITH_INTERMEDIATE, True, rank=8), 647_714),
    ("RoBERTa-base", "C3A block 768 q,v + head", on(QV, rank(768, C3A), **HEAD), 610_562),
    ("BERT-base", "LoRA r8 q,k + head", on(r".*\.(query|key)", rank(8), **HEAD), 296_450),
    ("BERT-base", "Houlsby 48", given(houlsby, 48, norms=False), 1_789_056),
    ("BERT-base", "Houlsby 64 and norms", given(houlsby, 64), 24 * (2 * 768 * 64 + 768 + 64) + 24 * 2 * 768),
    ("BERT-base", "Pfeiffer 48", given(pfeiffer, 48), 894_528),
    ("BERT-base", "Compacter", given(compacter), 57_088),
    ("BERT-base", "Compacter++", given(compacter, attention=False), 28_576),
    ("BERT-base", "parallel 384", given(parallel, 384), 12 * (2 * 768 * 384 + 768 + 384)),
    ("BERT-base", "invertible", given(invertible), 2 * (768 * 192 + 192) + 768),
    ("BERT-base", "MAM 30, 512", given(mam), 30 * 24 * 768 + 12 * (2 * 768 * 512 + 512 + 768)),
    (
        "BERT-base",
        "MAM 30, 512, prefix made by a network of 800",
        given(mam, hidden=800),
        30 * 768 + 769 * 800 + 801 * 24 * 768 + 12 * (2 * 768 * 512 + 512 + 768),
    ),
    (
        "BERT-base",
        "UniPELT 10, 48, r8; four gates a block",
        given(unipelt),
        10 * 24 * 768 + 12 * (2 * 768 * 48 + 768 + 48) + 24 * 8 * 2 * 768 + 12 * 4 * 769,
    ),
    ("Llama-3.2-3B", "prompt 200", given(prompt_tuning, 200), 614_400),
    ("Llama-3.2-3B", "prefix 50", given(prefix_tuning, 50), 2_867_200),
    ("Llama-3.2-3B", "prefix 200", given(prefix_tuning, 200), 11_468_800),
    ("Llama-3.2-3B", "LLaMA-Adapter 100", given(llama_adapter, 100), 8_601_628),
    ("Llama-7B", "LLaMA-Adapter 10 in 30 layers", given(llama_adapter, 10, 30), 1_228_830),
]
MINILM = [  # the course's own model, without a head
    ("LoRA r8 q,v", on(QV, rank(8)), 73_728),
    ("LoRA r8 all six", on(SIX, rank(8)), 331_776),
    ("LoRA r64 all six", on(SIX, rank(64)), 2_654_208),
    ("DoRA r8 q,v", on(QV, rank(8, DoRA)), 78_336),
    ("AdaLoRA r12 q,v", on(QV, rank(12, AdaLoRA)), 110_736),
    ("LoHa r8 q,v", on(QV, rank(8, LoHa)), 147_456),
    ("OFT block 32 q,v", on(QV, rank(32, OFT)), 71_424),
    ("VeRA r256 q,v", shared(vera, QV, rank=256), 7_680),
    ("FourierFT n1000 q,v", on(QV, rank(1000, FourierFT)), 12_000),
    ("IA3 k,v,intermediate", on(r".*\.(key|value|intermediate\.dense)", IA3), 13_824),
    (
        "IA3 k,v and the inputs of both output.dense",
        lambda m: inject(m, {r".*\.(key|value)": IA3, r".*output\.dense": partial(IA3, feed_forward=True)}),
        16_128,
    ),
    ("LN-tuning", ln_tuning, 9_984),
    ("BitFit, pooler's bias too", bitfit, 26_112),
    ("prompt 20", given(prompt_tuning, 20), 7_680),
    ("prefix 20", given(prefix_tuning, 20), 92_160),
    ("top layer and pooler", lambda m: top_k(m, 1, head="pooler"), 1_922_304),
    ("SHiRA r8 q,v", on(QV, rank(8, SHiRA)), 73_728),
    ("super-tuning q,v", on(QV, SuperTuning), 12 * 1_474),
    ("OSF 192 q,v", on(QV, rank(192, OSF)), 12 * 192 * 769),
    ("PVeRA r256 q,v", shared(pvera, QV, rank=256), 10_752),
    ("Uni-LoRA 1000 q,v", shared(unilora, QV, length=1000), 1_000),
    ("VB-LoRA q,v", shared(vblora, QV, vectors=256, length=128), 256 * 128 + 12 * 256 * 4 * 6),
    ("RandLoRA r32 q,v", shared(randlora, QV, rank=32), 12 * 12 * (32 + 384)),
    ("TinyLoRA 13, all tied", shared(tinylora, QV, numbers=13, tie=1.0), 13),
    ("SAID 1000 q,v", shared(said, QV, numbers=1000), 1_012),
    ("LoRA-XS r16 q,v", on(QV, rank(16, LoRAXS)), 12 * 256),
    ("KronA q,v", on(QV, KronA), 12 * (16 * 16 + 24 * 24)),
    ("LoKr r8 q,v", on(QV, rank(8, LoKr)), 12 * (16 * 16 + 8 * (24 + 24))),
]
CASES = PUBLISHED + [("MiniLM", *case) for case in MINILM]


@pytest.mark.parametrize(
    ("host", "method", "expected"), [(h, m, n) for h, _, m, n in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
def test_count(host, method, expected):
    with torch.device("meta"):
        model = HOSTS[host]()
    assert sum(p.numel() for p in trained(method(model)).values()) == expected


def test_the_numbers_of_minilm_itself():
    with torch.device("meta"):
        model = HOSTS["MiniLM"]()
    matrices = [m.weight for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(p.numel() for p in model.parameters()) == 22_713_216
    assert sum(p.numel() for p in model.embeddings.parameters()) == 11_918_592
    assert sum(W.numel() for W in matrices) == 10_616_832
