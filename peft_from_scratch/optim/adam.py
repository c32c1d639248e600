"""What GaLore and APOLLO share: Adam's moments of a small gradient, and which weights they treat.

The matrices of a model that is tuned in place (`full(model)`) go into one group with their settings, the rest into
another that gets plain Adam.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..adapt import trained
from ..methods.parts import Sites, layers_at


def adam(
    g: Float[Tensor, "*shape"], state: dict, betas: tuple[float, float], eps: float
) -> tuple[Float[Tensor, "*shape"], float]:
    """M / (√V + ε) after this gradient, and the factor √(1 - β₂ᵗ) / (1 - β₁ᵗ) that still belongs to it.

    ε stands beside √V before that correction, as in the released code of both papers. M and V are float32.
    """
    g = g.float() if g.dtype in (torch.float16, torch.bfloat16) else g
    if "M" not in state:
        state["M"], state["V"] = torch.zeros_like(g), torch.zeros_like(g)
    b1, b2 = betas
    state["step"] = t = state.get("step", 0) + 1
    state["M"].lerp_(g, 1 - b1)
    state["V"].mul_(b2).addcmul_(g, g, value=1 - b2)
    return state["M"] / (state["V"].sqrt() + eps), math.sqrt(1 - b2**t) / (1 - b1**t)


def groups(model: nn.Module, sites: Sites = "all-linear", **settings) -> list[dict]:
    """Two parameter groups: the weights at `sites`, with `settings` (rank, ...), and all else that trains."""
    matrices = list(dict.fromkeys(layer.weight for layer in layers_at(model, sites)))
    if not all(W.requires_grad and W.dim() == 2 for W in matrices):
        raise ValueError("these methods train matrices in place: call full(model) first, and target linear layers")
    rest = [p for p in trained(model).values() if not any(p is W for W in matrices)]
    return [{"params": matrices, **settings}] + ([{"params": rest}] if rest else [])


def decay(p: Tensor, group: dict) -> None:
    """Decoupled weight decay after the step."""
    if group["weight_decay"]:
        p.mul_(1 - group["lr"] * group["weight_decay"])
