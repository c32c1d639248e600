"""Riemannian LoRA: steps of A and B that do not depend on how B A is split.
Zhang and Pilanci 2024, arXiv:2402.02347, section 3.

    g_A ← (BᵀB + δ I)⁻¹ g_A        g_B ← g_B (A Aᵀ + δ I)⁻¹

(c B)(A / c) is the same change for every c, but plain gradients move A and B very differently; these do not, for δ → 0.
Two r by r matrices a layer. At LoRA's start BᵀB = 0, so that the first g_A would be divided by δ, if it were not zero.
Any optimiser may follow. What is trained, saved and merged is LoRA's.

Kind: memory. On: LoRA's A and B. Trains: rank * (d_in + d_out). Merges: yes. peft: create_riemannian_optimizer.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from .pairs import Pair, pairs


def riemannian(model: nn.Module, optimizer: Optimizer, damping: float = 1e-2) -> Optimizer:
    """`optimizer`, which from now on preconditions the gradients of LoRA before each step.

    A closure would make new gradients inside the step, past the preconditioner: it is refused. ValueError without LoRA.
    """
    if damping <= 0:
        raise ValueError(f"damping must be above 0, and is {damping}: B starts at zero")
    found = [pair for pair in pairs(model) if pair.A.requires_grad]
    if not found:
        raise ValueError("no LoRA of this model trains both A and B")

    def before_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        if any(a is not None for a in (*args[1:], *kwargs.values())):  # args[0] is the optimiser
            raise ValueError("preconditioned gradients do not go with a closure: call backward(), then step()")
        precondition(found, damping)

    optimizer.register_step_pre_hook(before_step)
    for group in optimizer.param_groups:
        group["damping"] = damping  # with the other settings, so that a checkpoint can tell runs apart
    return optimizer


@torch.no_grad()
def precondition(found: list[Pair], damping: float) -> None:
    """Both gradients of each pair, in place."""
    for _, A, B in found:
        if A.grad is not None:
            A.grad.copy_(damped_inverse(B.T @ B, damping) @ A.grad)
        if B.grad is not None:
            B.grad.copy_(B.grad @ damped_inverse(A @ A.T, damping))


def damped_inverse(M: Float[Tensor, "r r"], damping: float) -> Float[Tensor, "r r"]:
    """(M + δ I)⁻¹ of a positive semidefinite M."""
    return torch.linalg.inv(M + damping * torch.eye(len(M), dtype=M.dtype, device=M.device))
