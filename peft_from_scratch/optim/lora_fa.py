"""LoRA-FA: freeze A, train B, and correct B's gradient for it.  Zhang et al. 2023, arXiv:2308.03303, section 3.

    y = W x + s B A x        A: (r, d_in) frozen at its random start,  B: (d_out, r) zero
    g_B ← g_B (A Aᵀ + δ I)⁻¹ / s²

With A frozen the backward pass needs A x, r numbers a token, and no longer x, d_in of them. The corrected gradient
makes the change of s B A the one that is nearest to the gradient of W: min ‖s g A - g_W‖. `freeze_A` alone is LoRA with
half of it frozen. Trains r d_out numbers a layer; saved and merged as LoRA.

Kind: memory. On: LoRA's A and B. Trains: rank * d_out. Merges: yes. peft: create_lorafa_optimizer.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from ..adapt import trained
from .pairs import Pair, pairs


def freeze_A(model: nn.Module) -> list[Pair]:
    """Stop the training of every A beside a B that trains; they stay in the state."""
    found = pairs(model, embeddings=False)  # an embedding's A starts at zero: frozen, it would stay without effect
    for pair in found:
        pair.A.requires_grad_(False).grad = None
    return found


def lora_fa(
    model: nn.Module,
    lr: float,
    damping: float = 1e-8,
    optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
    **settings,
) -> Optimizer:
    """Freeze all A and return an `optimizer` of what still trains, which corrects the gradients of B before each step.

    peft 0.21.2 multiplies in bfloat16 here, also on a CPU and in float32 training, which moves the gradient by half a
    percent; this is float32.
    """
    if damping < 0:
        raise ValueError(f"damping must not be below 0, and is {damping}")
    found = freeze_A(model)
    made = optimizer(trained(model).values(), lr=lr, **settings)
    made.register_step_pre_hook(lambda _, args, kwargs: correct(found, damping))
    for group in made.param_groups:
        group["damping"] = damping  # with the other settings, so that a checkpoint can tell runs apart
    return made


@torch.no_grad()
def correct(found: list[Pair], damping: float) -> None:
    """g_B ← g_B (A Aᵀ + δ I)⁻¹ / s², in place."""
    for adapter, A, B in found:
        if B.grad is not None:
            AAt = A @ A.T + damping * torch.eye(len(A), dtype=A.dtype, device=A.device)
            B.grad.copy_(B.grad @ torch.linalg.pinv(AAt) / adapter.scale**2)
