"""LoftQ: let LoRA start as the error of quantisation.  Li et al. 2023, arXiv:2310.08659, section 3.

    min ‖W - Q - s B A‖:   Q = quantise(W - s B A),   B, A = the rank-r SVD of W - Q        in turn, `steps` times

The model starts nearer to the plain one than quantised alone, but not as either. Q is the base from here on: `loftq`
returns a copy of the model with Q for W, and the targets: `model = inject(*loftq(model, "all-linear", quantise))`.
`quantise` takes a weight to the values that its quantised form stands for. `remove` gives back the quantised copy; the
model that was passed is not touched. Hugging Face peft 0.21.2 leaves s out of the sum: right where alpha = rank alone.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft:
init_lora_weights='loftq'.
"""

import copy
import re
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....adapter import plain, sites
from ....layers import refuse_4bit, weight_of, with_weight
from ...parts import Sites, layers_at
from ..lora import LoRA, Start
from .spectrum import balanced, spectrum

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
    lora = partial(LoRA, rank=rank, alpha=alpha, **settings)
    scale = lora(nn.Linear(1, 1)).scale
    for layer in layers_at(model, patterns):
        refuse_4bit(layer, "LoftQ")
        Q, start = alternate(weight_of(layer).detach(), quantise, rank, scale, steps)
        layer.weight = with_weight(layer, Q).weight.requires_grad_(layer.weight.requires_grad)
        targets[re.escape(names[layer])] = partial(lora, start=lambda *_, start=start: start)
    return model, targets
