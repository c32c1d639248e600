"""What GaLore, APOLLO and AdaLomo do in their authors' packages, recorded: this script writes thrift.safetensors.

Needs packages that this project does not install (their own dependencies are not needed):
    pip install torch==2.13.0 transformers==5.23.0 bitsandbytes==0.50.2
    pip install --no-deps galore-torch==1.0 apollo-torch==1.0.3 lomo-optim==0.1.1

A tall and a wide matrix and a vector get random gradients for eight steps; kept: the gradients, where each weight is
after each step, and APOLLO's random projections. The versions are in the file's header.
"""

import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from apollo_torch import APOLLOAdamW
from galore_torch import GaLoreAdamW
from lomo_optim import AdaLomo
from safetensors.torch import save_file
from torch import nn

STEPS, EVERY, RANK, LR, DECAY = 8, 3, 2, 0.05, 0.1
SHAPES = {"tall": (8, 5), "wide": (4, 9), "vector": (6,)}


def start():
    generator = torch.Generator().manual_seed(0)
    weights = {k: torch.randn(s, generator=generator) for k, s in SHAPES.items()}
    return weights, {k: torch.randn(STEPS, *s, generator=generator) for k, s in SHAPES.items()}


def trajectory(optimizer, parameters, gradients, each=lambda step: None):
    path = {k: [] for k in parameters}
    for step in range(STEPS):
        for k, p in parameters.items():
            p.grad = gradients[k][step].clone()
        optimizer.step()
        each(step)
        for k, p in parameters.items():
            path[k].append(p.detach().clone())
    return {k: torch.stack(t) for k, t in path.items()}


def groups(parameters, **settings):
    matrices = [p for p in parameters.values() if p.dim() == 2]
    return [{"params": matrices, **settings}, {"params": [p for p in parameters.values() if p.dim() < 2]}]


def galore(weights, gradients):
    parameters = {k: nn.Parameter(t.clone()) for k, t in weights.items()}
    settings = dict(rank=RANK, update_proj_gap=EVERY, scale=0.25, proj_type="std")
    return trajectory(GaLoreAdamW(groups(parameters, **settings), lr=LR, weight_decay=DECAY), parameters, gradients)


def apollo(weights, gradients, scale_type, scale):
    parameters = {k: nn.Parameter(t.clone()) for k, t in weights.items()}
    settings = dict(
        rank=RANK, update_proj_gap=EVERY, scale=scale, proj_type="std", proj="random", scale_type=scale_type
    )
    optimizer = APOLLOAdamW(groups(parameters, **settings), lr=LR, weight_decay=DECAY)
    drawn = {k: [] for k in ("tall", "wide")}

    def keep(step):
        for k in drawn:
            drawn[k].append(optimizer.state[parameters[k]]["projector"].ortho_matrix.clone())

    path = trajectory(optimizer, parameters, gradients, keep)
    return path, {k: torch.stack(t) for k, t in drawn.items()}


def adalomo(weights, gradients):
    torch.Tensor.cuda = lambda self, *args: self  # the package puts its states on a GPU
    model = nn.Module()
    for k, t in weights.items():
        model.register_parameter(k, nn.Parameter(t.clone()))
    optimizer = AdaLomo(model, lr=LR, loss_scale=None, weight_decay=DECAY)
    path = {k: [] for k in weights}
    for step in range(STEPS):
        optimizer.fused_backward(sum((p * gradients[k][step]).sum() for k, p in model.named_parameters()), LR)
        for k, p in model.named_parameters():
            path[k].append(p.detach().clone())
    return {k: torch.stack(t) for k, t in path.items()}


def main():
    warnings.simplefilter("ignore")
    weights, gradients = start()
    kept = {f"start.{k}": t for k, t in weights.items()} | {f"gradient.{k}": t for k, t in gradients.items()}
    kept |= {f"galore.{k}": t for k, t in galore(weights, gradients).items()}
    kept |= {f"adalomo.{k}": t for k, t in adalomo(weights, gradients).items()}
    for per, scale in (("channel", 1.0), ("tensor", 4.0)):
        path, drawn = apollo(weights, gradients, per, scale)
        kept |= {f"apollo.{per}.{k}": t for k, t in path.items()} | {f"P.{per}.{k}": t for k, t in drawn.items()}
    versions = {name: version(name) for name in ("torch", "galore-torch", "apollo-torch", "lomo-optim")}
    settings = dict(steps=STEPS, every=EVERY, rank=RANK, lr=LR, decay=DECAY)
    header = versions | {k: str(v) for k, v in settings.items()}
    save_file({k: t.contiguous() for k, t in kept.items()}, Path(__file__).with_suffix(".safetensors"), header)
    print(header, {k: tuple(t.shape) for k, t in kept.items()})


if __name__ == "__main__":
    main()
