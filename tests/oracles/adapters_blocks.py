"""What bottleneck adapters do in the `adapters` library, recorded: this script writes adapters_blocks.safetensors.

Needs its own environment, for adapters pins another transformers than this project's:
    pip install torch==2.13.0 transformers==4.57.6 adapters==1.3.0

A tiny random BERT and GPT-2 with language-model heads, their weights, a batch, and for each configuration the adapters'
weights (moved at random), the logits, and the gradients of the sum of logits times a fixed tensor. Names are those of
the library. The versions are in the file's header.
"""

import copy
import os
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import adapters
import torch
from adapters import (
    AdapterFusionConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    ConfigUnion,
    DoubleSeqBnConfig,
    LoRAConfig,
    ParBnConfig,
    SeqBnConfig,
    SeqBnInvConfig,
)
from adapters.composition import Fuse
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

BERT = {
    "houlsby": DoubleSeqBnConfig(reduction_factor=8),
    "pfeiffer": SeqBnConfig(reduction_factor=8),
    "parallel": ParBnConfig(reduction_factor=4, scaling=1.0),
    "parallel4": ParBnConfig(reduction_factor=4),
    "parallel_learned": ParBnConfig(reduction_factor=4, scaling="learned"),
    "compacter": CompacterConfig(reduction_factor=3),
    "compacter++": CompacterPlusPlusConfig(reduction_factor=3, original_ln_before=False),
    "compacter++ at the end": CompacterPlusPlusConfig(reduction_factor=3),
    "drop": DoubleSeqBnConfig(reduction_factor=8),
    "fusion": SeqBnConfig(reduction_factor=8),
    "invertible": SeqBnInvConfig(reduction_factor=8),
    "unipelt": ConfigUnion(SeqBnConfig(reduction_factor=8, use_gating=True), LoRAConfig(r=3, use_gating=True)),
}
GPT2 = {name: BERT[name] for name in ("houlsby", "pfeiffer", "fusion", "invertible")}


def bert():
    config = BertConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, vocab_size=61,
        max_position_embeddings=16,
    )  # fmt: skip
    return BertForMaskedLM(config)


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=61, n_positions=16))


def adapted(host, name, config):
    """A copy of the host with its adapters, set active."""
    model = copy.deepcopy(host)
    adapters.init(model)
    names = ["a", "b"] if name == "fusion" else ["a"]
    for each in names:
        model.add_adapter(each, config)
    if name == "fusion":
        model.add_adapter_fusion(names, AdapterFusionConfig.load("dynamic"))
        model.train_adapter_fusion(Fuse(*names))
    else:
        model.train_adapter("a")
    model.set_active_adapters(Fuse(*names) if name == "fusion" else "a", skip_layers=[0] if name == "drop" else None)
    return model.eval()


def record(host, name, config, batch, target):
    model = adapted(host, name, config)
    base = set(dict(host.named_parameters()))
    own = {k: p for k, p in model.named_parameters() if k not in base and "prediction_head" not in k}
    with torch.no_grad():
        for p in own.values():
            p.add_(0.3 * torch.randn_like(p))
    logits = model(**batch).logits
    (logits * target).sum().backward()
    kept = {f"weight/{k}": p for k, p in own.items()} | {"logits": logits}
    if name == "invertible":  # which the library uses in heads of its own only
        kept["inverse"] = model.base_model.invertible_adapters["a"](target[..., : host.config.hidden_size], rev=True)
    return kept | {f"grad/{k}": p.grad for k, p in own.items() if p.grad is not None}


def main():
    torch.manual_seed(0)
    state = {"ids": torch.randint(1, 61, (3, 7)), "mask": torch.ones(3, 7, dtype=torch.long)}
    state["mask"][0, -2:] = 0
    batch = {"input_ids": state["ids"], "attention_mask": state["mask"]}
    target = state["target"] = torch.randn(3, 7, 61) / 10
    for host_name, host, configs in ("bert", bert().eval(), BERT), ("gpt2", gpt2().eval(), GPT2):
        with torch.no_grad():
            for p in host.parameters():  # no norm at its start, where it would hide a wrong one
                p.add_(0.05 * torch.randn_like(p))
            state[f"{host_name}/base/logits"] = host(**batch).logits
        state |= {f"{host_name}/base/{k}": p for k, p in host.named_parameters()}
        for name, config in configs.items():
            found = record(host, name, config, batch, target)
            state |= {f"{host_name}/{name}/{k}": t for k, t in found.items()}
            print(host_name, name, (found["logits"] - state[f"{host_name}/base/logits"]).abs().max().item())
    versions = {name: version(name) for name in ("torch", "transformers", "adapters")}
    state = {k: t.detach().clone().contiguous() for k, t in state.items()}
    save_file(state, Path(__file__).with_suffix(".safetensors"), versions)
    print(versions, len(state))


if __name__ == "__main__":
    main()
