"""LoftQ: let LoRA start as the error of quantisation.  Li et al. 2023, arXiv:2310.08659, section 3.

    min ‖W - Q - s B A‖:   Q = quantise(W - s B A),   B, A = the rank-r SVD of W - Q        in turn, `steps` times

The model starts nearer to the plain one than quantised alone, but not as either.
Q is the base from here on: `loftq` returns a copy of the model with Q in place of W, and the targets to inject into it.

    model = inject(*loftq(model, "all-linear", quantise, rank=8))

Trains and merges as LoRA; `remove` gives back the quantised copy, and the model that was passed is not touched.
`quantise` takes a weight to the values that its quantised form stands for. Hugging Face peft 0.21.2 leaves s out of the
sum, which is right for s = 1 alone (alpha = rank).
"""

import copy
import re
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....adapter import plain, sites
from ....layers import weight_of, with_weight
from ...card import Card
from ...parts import Sites, layers_at
from ..lora import LoRA, Start
from .spectrum import balanced, spectrum

CARD = Card(
    name="LoftQ",
    paper="Li et al.",
    year=2023,
    source="arXiv:2310.08659 §3",
    category="reparametrized",
    attaches="Linear, Conv1D, Embedding, Conv2d",
    count="rank * (d_in + d_out)",
    merges=True,
    peft="init_lora_weights='loftq'",
)
Quantise = Callable[[Tensor], Tensor]


def alternate(
    W: Float[Tensor, "d_out d_in"], quantise: Quantise, rank: int, scale: float, steps: int
) -> tuple[Float[Tensor, "d_out d_in"], Start]:
    """Q and the start (A, B) with Q + scale B A near W."""
    BA = torch.zeros_like(W)
    for _ in range(steps):
        Q = quantise(W - scale * BA)
        U, S, Vt = spectrum(W - Q, rank)
        A, B = balanced(U[:, :rank], S[:rank], Vt[:rank], scale)
        BA = B @ A
    return Q, Start(A, B)


def loftq(
    model: nn.Module, patterns: Sites, quantise: Quantise, rank: int = 8, alpha: float = 16, steps: int = 5, **settings
) -> tuple[nn.Module, dict[str, Callable]]:
    """A copy of `model` with quantised layers at `patterns`, and the targets that put LoRA over them."""
    if steps < 1:
        raise ValueError(f"LoftQ needs at least one step of quantising and fitting, not {steps}")
    model, targets = copy.deepcopy(model), {}
    names = {plain(module): site for site, module in reversed(list(sites(model)))}
    scale = LoRA(nn.Linear(1, 1), rank, alpha, rslora=settings.get("rslora", False)).scale
    for layer in layers_at(model, patterns):
        Q, start = alternate(weight_of(layer).detach(), quantise, rank, scale, steps)
        layer.weight = with_weight(layer, Q).weight.requires_grad_(layer.weight.requires_grad)
        targets[re.escape(names[layer])] = partial(
            LoRA, rank=rank, alpha=alpha, start=lambda base, r, s, start=start: start, **settings
        )
    return model, targets
