"""What MTL-LoRA does in the `adapters` library, recorded: this script writes mtl_lora.safetensors beside it.

Needs its own environment, for adapters pins another transformers than this project's:
    pip install torch==2.13.0 transformers==4.57.6 adapters==1.3.0

A tiny random BERT with three tasks that share A and B; of its first value layer: input, output, the gradient at the
output and those of A, B, each task's Λ and w. The versions are in the file's header.
"""

import os
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import adapters
import adapters.composition as compose
import torch
from adapters import MTLLoRAConfig
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

TASKS, RANK, ALPHA, N_UP, TAU = ["a", "b", "c"], 3, 5, 4, 0.4
IDS = torch.tensor([2, 0, 2, 1])


def model():
    torch.manual_seed(0)
    config = BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40, vocab_size=61)
    bert = BertModel(config).eval()
    adapters.init(bert)
    for task in TASKS:
        bert.add_adapter(
            task, MTLLoRAConfig(r=RANK, alpha=ALPHA, n_up_projection=N_UP, weights_sharpness=TAU, init_weights="bert")
        )
    bert.share_parameters(adapter_names=TASKS)
    bert.active_adapters = compose.MultiTask(*TASKS)
    return bert


def main():
    bert = model()
    layer = bert.encoder.layer[0].attention.self.value
    with torch.no_grad():
        for p in layer.loras.parameters():
            p.add_(0.3 * torch.randn_like(p))
    kept = {}

    def keep(module, given, y):
        y.retain_grad()
        kept.update(x=given[0].detach(), y=y)

    layer.register_forward_hook(keep)
    ids = torch.randint(1, 61, (len(IDS), 5))
    bert(ids, task_ids=IDS).last_hidden_state.square().sum().backward()
    tasks = [layer.loras[t] for t in TASKS]
    assert all(t.lora_A is tasks[0].lora_A for t in tasks)
    state = {
        "x": kept["x"], "y": kept["y"].detach(), "grad_y": kept["y"].grad, "ids": IDS,
        "W": layer.weight.detach(), "b": layer.bias.detach(),
        "A": tasks[0].lora_A, "grad_A": tasks[0].lora_A.grad, "B": tasks[0].lora_B, "grad_B": tasks[0].lora_B.grad,
        "Lambda": torch.stack([t.task_specific.values for t in tasks]),
        "grad_Lambda": torch.stack([t.task_specific.values.grad for t in tasks]),
        "w": torch.stack([t.weights for t in tasks]), "grad_w": torch.stack([t.weights.grad for t in tasks]),
    }  # fmt: skip
    versions = {name: version(name) for name in ("torch", "transformers", "adapters")}
    settings = dict(rank=RANK, alpha=ALPHA, n_up=N_UP, tau=TAU, n_tasks=len(TASKS))
    header = versions | {k: str(v) for k, v in settings.items()}
    save_file(
        {k: t.detach().contiguous() for k, t in state.items()}, Path(__file__).with_suffix(".safetensors"), header
    )
    print(header, {k: tuple(t.shape) for k, t in state.items()})


if __name__ == "__main__":
    main()
