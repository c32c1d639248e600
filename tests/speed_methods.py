"""Each method beside Hugging Face peft's, with the same settings: the table that `python tests/speed.py` times.

peft's defaults where they fit a width of 384, else the nearest that does. What adds to peft's loss is added to ours,
and what runs after peft's optimiser (AdaLoRA's ranks) runs after ours.
"""

# ruff: noqa: I001  long lists of modules, several on a line

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import peft
import torch
from peft import optimizers as peft_optimizers
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from peft_from_scratch import LoRA, Replaced, inject, trained
from peft_from_scratch.interop import save_peft
from peft_from_scratch.methods.adapters.ia3 import IA3
from peft_from_scratch.methods.lowrank import (
    adalora, adamss, alora, bdlora, deft, delora, dora, frod, glora, gralora, hira, kasa, krona, loha, lokr, miss,
    monteclora, peanut, psoft, pvera, randlora, tinylora, unilora, vblora, velora, vera,
)  # fmt: skip
from peft_from_scratch.methods.lowrank.starts import mica, pissa
from peft_from_scratch.methods.mixture import lily, poly, tasks, xlora
from peft_from_scratch.methods.mixture.experts import from_model
from peft_from_scratch.methods.prompts import (
    cartridge, cpt, llama_adapter, multitask, p_tuning, prefix_tuning, prompt_tuning,
)  # fmt: skip
from peft_from_scratch.methods.representation import shadow
from peft_from_scratch.methods.rotation import boft, hra, oft, road
from peft_from_scratch.methods.selective import beft, ln_tuning, osf, shira, supertuning, trainable_tokens
from peft_from_scratch.methods.transform import c3a, fourierft, waveft
from peft_from_scratch.optim.lora_fa import lora_fa
from peft_from_scratch.optim.lora_plus import lora_plus
from peft_from_scratch.optim.riemannian import riemannian

TARGETS = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}
SITES = {host: tuple(rf".*\.{name}" for name in names) for host, names in TARGETS.items()}
SIZES = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12)
TASK_IDS = torch.arange(16) % 3


def bert() -> nn.Module:
    """MiniLM's shape."""
    return BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=1536))


def llama() -> nn.Module:
    """A decoder of MiniLM's size; the vocabulary is small, so that the head does not hide the layers."""
    return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=1024, vocab_size=2048, pad_token_id=0))


HOSTS = {"bert": bert, "llama": llama}


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).loss


def adamw(model: nn.Module) -> AdamW:
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)


def nothing(model: nn.Module) -> Callable[[], None]:
    return lambda: None


class Side(NamedTuple):
    """How one library does it: the adapted model, its loss, its optimiser, and what it runs after a step."""

    adapt: Callable[[nn.Module], nn.Module]
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor] = loss_of
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adamw
    after: Callable[[nn.Module], Callable[[], None]] = nothing


class Pair(NamedTuple):
    ours: Side
    theirs: Side
    host: str = "bert"


def with_peft(config: Callable[..., peft.PeftConfig], **settings) -> Callable[[nn.Module], nn.Module]:
    return lambda model: peft.get_peft_model(model, config(**settings))


def at(factory: Callable, config: Callable, host: str = "bert", **settings) -> Pair:
    """Our adapter and peft's in the same layers."""
    return Pair(
        Side(lambda model: inject(model, {SITES[host]: factory})),
        Side(with_peft(config, target_modules=TARGETS[host], **settings)),
        host,
    )


def sharing(page: ModuleType, config: Callable, ours: dict, **theirs) -> Pair:
    """For adapters that share something: our page's `shared`."""
    sites = SITES["bert"]
    return Pair(
        Side(lambda model: inject(model, {sites: page.shared(model, sites, **ours)})),
        Side(with_peft(config, target_modules=TARGETS["bert"], **theirs)),
    )


def lora(factory: Callable = LoRA, host: str = "bert", **settings) -> Pair:
    return at(factory, peft.LoraConfig, host, r=8, lora_alpha=16, **settings)


def prompt(make: Callable, config: Callable, n_tokens: int | None = 20, host: str = "bert", **settings) -> Pair:
    """A prompt before the whole model; with BERT the classifier trains too, since peft trains it."""
    head = {"classifier": Replaced} if host == "bert" else {}
    kind = {"bert": "SEQ_CLS", "llama": "CAUSAL_LM"}[host]
    length = {} if n_tokens is None else dict(num_virtual_tokens=n_tokens)
    return Pair(
        Side(lambda model: inject(model, make(model) | head)),
        Side(with_peft(config, task_type=kind, **length, **settings)),
        host,
    )


def but(pair: Pair, ours: dict, theirs: dict | None = None) -> Pair:
    """The pair with another loss, optimiser or last part of a step."""
    return pair._replace(ours=pair.ours._replace(**ours), theirs=pair.theirs._replace(**(theirs or {})))


# -- Methods of more than one line ------------------------------------------------------------------------------------


def with_adalora() -> Pair:
    def penalised(model, batch):
        return model(**batch).loss + 0.5 * adalora.penalty(model, released=True)

    def allocator(model):
        return adalora.RankAllocator(model, 8, steps=10_000).step

    def their_allocator(model):
        steps = iter(range(10_000))
        return lambda: model.base_model.update_and_allocate(next(steps))

    pair = at(lambda base: adalora.AdaLoRA(base, 12, 8), peft.AdaLoraConfig, total_step=10_000)
    return but(pair, dict(loss=penalised, after=allocator), dict(after=their_allocator))


def with_adamss() -> Pair:
    """Without scikit-learn, which peft wants for its k-means: both sides get the same clusters."""

    def clusters(n):
        return torch.arange(n) * 7 % 5

    def adapt(model):
        sys.modules.setdefault("sklearn", ModuleType("sklearn"))
        peft.tuners.adamss.layer.clustering_Z = lambda U, *_: (clusters(len(U)), 5)
        return peft.get_peft_model(model, peft.AdamssConfig(target_modules=TARGETS["bert"]))

    pair = at(lambda base: adamss.AdaMSS(base, clusters=clusters(base.out_features)), peft.AdamssConfig)
    return but(pair, {}, dict(adapt=adapt))


def with_alora() -> Pair:
    """The invocation is found in each text's middle: see `batch_for` in speed.py."""
    invocation = alora.Invocation([1, 2])

    def invoked(model, batch):
        with alora.invoked(model, batch["input_ids"]):
            return model(**batch).loss

    pair = lora(
        lambda b: alora.ALoRA(b, invocation, 8, 16), "llama", task_type="CAUSAL_LM", alora_invocation_tokens=[1, 2]
    )
    return but(pair, dict(loss=invoked))


def with_cpt() -> Pair:
    context, kinds = list(range(3, 23)), [1, 2, 3, 4, 4] * 4
    pair = prompt(
        lambda model: cpt.cpt(model, context, kinds), peft.CPTConfig, None, "llama",
        cpt_token_ids=context, cpt_mask=[1] * 20, cpt_tokens_type_mask=kinds, opt_weighted_loss_type="decay",
    )  # fmt: skip

    def mine(model, batch):
        return cpt.cpt_loss(model, **batch, kinds=torch.full_like(batch["labels"], 4))

    def theirs(model, batch):
        return model(**batch, input_type_mask=torch.full_like(batch["labels"], 4)).loss

    return but(pair, dict(loss=mine), dict(loss=theirs))


def with_kasa() -> Pair:
    return but(
        lora(kasa.KaSA, kasa_config=peft.KasaConfig()),
        dict(loss=lambda model, batch: model(**batch).loss + kasa.penalty(model)),
        dict(loss=lambda model, batch: model(**batch).loss + model.base_model._get_kasa_loss()),
    )


def with_ln_tuning() -> Pair:
    theirs = with_peft(peft.LNTuningConfig, target_modules=["LayerNorm"])
    return Pair(Side(ln_tuning.ln_tuning), Side(theirs))


def with_monteclora() -> Pair:
    return but(
        lora(monteclora.MonteCLoRA, monteclora_config=peft.MontecloraConfig()),
        dict(loss=lambda model, batch: model(**batch).loss + monteclora.penalty(model)),
        dict(loss=lambda model, batch: model(**batch).loss + model.base_model._get_monteclora_loss()),
    )


def for_tasks(pair: Pair, told: Callable, reads: Callable = lambda model: model) -> Pair:
    """Rows of several tasks: ours are told by a context, peft's by an argument, of the part that `reads` it."""

    def mine(model, batch):
        with told(model, TASK_IDS):
            return model(**batch).loss

    return but(pair, dict(loss=mine), dict(loss=lambda model, batch: reads(model)(**batch, task_ids=TASK_IDS).loss))


def with_shadow() -> Pair:
    def penalised(model, batch):
        return model(**batch).loss + 0.05 * shadow.penalty(model, batch["labels"])

    return Pair(
        Side(lambda model: inject(model, shadow.shadow(model, r"model\.layers\.\d+")), penalised),
        Side(with_peft(peft.ShadowConfig, task_type="CAUSAL_LM")),
        "llama",
    )


def with_trainable_tokens() -> Pair:
    ids = list(range(100, 110))
    theirs = with_peft(peft.TrainableTokensConfig, target_modules=["word_embeddings"], token_indices=ids)
    return Pair(Side(lambda model: trainable_tokens.trainable_tokens(model, ids)), Side(theirs))


def with_xlora() -> Pair:
    """Three trained LoRAs and the gate over them, which alone trains."""

    def expert(seed):
        torch.manual_seed(seed)
        model = inject(llama(), {SITES["llama"]: LoRA})
        for p in trained(model).values():
            nn.init.normal_(p.data, std=0.02)
        return model

    def mine(model):
        experts = [from_model(expert(seed)) for seed in range(3)]
        return inject(model, xlora.xlora(model, SITES["llama"], experts, layerwise=False))

    def theirs(model):
        model.config.use_cache = False
        with tempfile.TemporaryDirectory() as folder:
            paths = {str(seed): str(Path(folder) / str(seed)) for seed in range(3)}
            for seed, path in paths.items():
                save_peft(expert(int(seed)), path)
            config = peft.XLoraConfig(task_type="CAUSAL_LM", hidden_size=384, adapters=paths)
            return peft.get_peft_model(model, config)

    return Pair(Side(mine), Side(theirs), "llama")


def optimised(ours: Callable, theirs: Callable) -> Pair:
    """LoRA, each with its own optimiser."""
    return but(lora(), dict(optimizer=ours), dict(optimizer=theirs))


FUSED = dict(lr=1e-3, fused=True)

METHODS: dict[str, Callable[[], Pair]] = {
    # LoRA, its starts and its switches
    "LoRA": lora,
    "LoRA, dropout": lambda: lora(lambda b: LoRA(b, dropout=0.1), lora_dropout=0.1),
    "LoRA with a bias": lambda: lora(lambda b: LoRA(b, bias=True), lora_bias=True),
    "PiSSA": lambda: lora(lambda b: LoRA(b, start=pissa.pissa), init_lora_weights="pissa"),
    "MiCA": lambda: lora(mica.MiCA, init_lora_weights="mica"),
    "DoRA": lambda: lora(dora.DoRA, use_dora=True),
    "aLoRA": with_alora,
    "BD-LoRA": lambda: lora(
        bdlora.BDLoRA, use_bdlora=peft.BdLoraConfig(nblocks=2, target_modules_bd_b=TARGETS["bert"])
    ),
    "KaSA": with_kasa,
    "MonteCLoRA": with_monteclora,
    "VeLoRA": lambda: lora(
        lambda b: velora.VeLoRA(b, update="each"), velora_config=peft.VeloraConfig(init_type="batch_average")
    ),
    "LoRA+": lambda: optimised(
        lambda m: lora_plus(m, **FUSED),
        lambda m: peft_optimizers.create_loraplus_optimizer(m, AdamW, loraplus_lr_ratio=16, **FUSED),
    ),
    "LoRA-FA": lambda: optimised(
        lambda m: lora_fa(m, **FUSED), lambda m: peft_optimizers.create_lorafa_optimizer(m, r=8, lora_alpha=16, lr=1e-3)
    ),
    "Riemannian LoRA": lambda: optimised(
        lambda m: riemannian(m, adamw(m)), lambda m: peft_optimizers.create_riemannian_optimizer(m, AdamW, **FUSED)
    ),
    # Its relatives
    "AdaLoRA": with_adalora,
    "AdaMSS": with_adamss,
    "DEFT": lambda: at(deft.DEFT, peft.DeftConfig),
    "DeLoRA": lambda: at(lambda b: delora.DeLoRA(b, start="zero"), peft.DeloraConfig),
    "FRoD": lambda: sharing(frod, peft.FrodConfig, {}, progressbar=False),
    "GLoRA": lambda: at(glora.GLoRA, peft.GloraConfig),
    "GraLoRA": lambda: at(gralora.GraLoRA, peft.GraloraConfig),
    "HiRA": lambda: at(hira.HiRA, peft.HiraConfig),
    "KronA": lambda: at(krona.KronA, peft.LoKrConfig, r=384),
    "LoHa": lambda: at(loha.LoHa, peft.LoHaConfig),
    "LoKr": lambda: at(lokr.LoKr, peft.LoKrConfig),
    "MiSS": lambda: at(miss.MiSS, peft.MissConfig),
    "MiSS, bat": lambda: at(lambda b: miss.MiSS(b, 64, bat=True), peft.MissConfig, r=64, init_weights="bat"),
    "PEANuT": lambda: at(peanut.PEANuT, peft.PeanutConfig),
    "PSOFT": lambda: at(psoft.PSOFT, peft.PsoftConfig),
    "PVeRA": lambda: sharing(pvera, peft.PveraConfig, {}),
    "RandLoRA": lambda: sharing(randlora, peft.RandLoraConfig, {}),
    "TinyLoRA": lambda: sharing(tinylora, peft.TinyLoraConfig, {}),
    "Uni-LoRA": lambda: sharing(unilora, peft.UniLoraConfig, {}),
    "VB-LoRA": lambda: sharing(vblora, peft.VBLoRAConfig, dict(length=128), vector_length=128),
    "VeRA": lambda: sharing(vera, peft.VeraConfig, {}),
    # Rotations and transforms
    "OFT": lambda: at(lambda b: oft.OFT(b, terms=5), peft.OFTConfig),
    "OFT, exact": lambda: at(oft.OFT, peft.OFTConfig, use_cayley_neumann=False),
    "BOFT": lambda: at(boft.BOFT, peft.BOFTConfig),
    "HRA": lambda: at(hra.HRA, peft.HRAConfig),
    "RoAd": lambda: at(road.RoAd, peft.RoadConfig),
    "(IA)³": lambda: at(IA3, peft.IA3Config, feedforward_modules=[]),
    "C3A": lambda: at(lambda b: c3a.C3A(b, 128, divide=True), peft.C3AConfig, block_size=128),
    "FourierFT": lambda: at(fourierft.FourierFT, peft.FourierFTConfig),
    "WaveFT": lambda: at(waveft.WaveFT, peft.WaveFTConfig),
    # Selective
    "BEFT": lambda: at(beft.BEFT, peft.BeftConfig),
    "LN-tuning": with_ln_tuning,
    "OSF": lambda: at(osf.OSF, peft.OSFConfig),
    "SHiRA": lambda: at(lambda b: shira.SHiRA(b, 32), peft.ShiraConfig, random_seed=0),
    "Super-tuning": lambda: at(supertuning.SuperTuning, peft.SupertuningConfig),
    "Trainable tokens": with_trainable_tokens,
    # Mixtures
    "Lily": lambda: sharing(lily, peft.LilyConfig, {}),
    "Poly": lambda: for_tasks(
        at(lambda b: poly.Poly(b, 3), peft.PolyConfig, n_tasks=3), tasks.task_ids, lambda model: model.base_model
    ),
    "X-LoRA": with_xlora,
    # Prompts, and networks beside the model
    "Prompt tuning": lambda: prompt(lambda m: prompt_tuning.prompt_tuning(m), peft.PromptTuningConfig),
    "P-tuning": lambda: prompt(
        lambda m: p_tuning.p_tuning(m, 20, 128, False), peft.PromptEncoderConfig, encoder_hidden_size=128
    ),
    "Multitask prompt tuning": lambda: for_tasks(
        prompt(lambda m: multitask.multitask_prompt(m, 3), peft.MultitaskPromptTuningConfig, num_tasks=3),
        multitask.prompt_tasks,
    ),
    "Prefix tuning": lambda: prompt(lambda m: prefix_tuning.prefix_tuning(m, 20), peft.PrefixTuningConfig),
    "Cartridge": lambda: prompt(lambda m: cartridge.cartridge(m, 20), peft.CartridgeConfig),
    "CPT": with_cpt,
    "LLaMA-Adapter": lambda: prompt(
        lambda m: llama_adapter.llama_adapter(m), peft.AdaptionPromptConfig, None, "llama",
        adapter_len=10, adapter_layers=6,
    ),  # fmt: skip
    "Shadow": with_shadow,
}  # fmt: skip

# Methods that peft has, and that are not timed: why.
NOT_TIMED = {
    "LoRA, Gaussian start": "its training step is LoRA's",
    "LoRA, orthogonal start": "its training step is LoRA's",
    "rsLoRA": "its training step is LoRA's",
    "Ranks by pattern": "its training step is LoRA's",
    "OLoRA": "its training step is PiSSA's",
    "CorDA": "its training step is PiSSA's",
    "LoRA-GA": "its training step is PiSSA's",
    "EVA": "its training step is LoRA's",
    "LoftQ": "its training step is LoRA's",
    "QA-LoRA": "peft has it for GPTQ layers alone, which need a GPU",
    "QLoRA": "its training step is LoRA's over a 4-bit layer, which speed_4bit.py times",
    "Head only": "peft trains whole modules only beside an adapter",
    "Top-k layers": "peft trains whole modules only beside an adapter",
    "BitFit": "peft trains the model's biases only beside LoRA",
    "Arrow": "nothing trains",
    "Conversion to LoRA": "nothing trains",
    "DARE": "nothing trains",
    "Intruder dimensions": "nothing trains",
    "Joined LoRAs": "nothing trains",
    "Magnitude prune": "nothing trains",
    "Task arithmetic": "nothing trains",
    "TIES": "nothing trains",
}
