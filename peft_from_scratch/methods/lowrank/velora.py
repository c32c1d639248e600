"""VeLoRA: keep one number a group of features for the backward pass.  Miles et al. 2024, arXiv:2405.17991, section 3.

    forward:   h = A x,  keep z_g = vᵀ x_g for each of the G groups x_g of x        v: (⌈d_in / G⌉,) one unit vector
    backward:  ∂A = Σ_tokens ∂h x̃ᵀ  with  x̃_g = z_g v  in place of x_g

LoRA must keep x, d_in numbers a token, to get ∂A; here it keeps G. The output is exact, and so is the gradient of x;
the gradient of A sees of each group only its part along v. As in the paper, v is the mean group of the first training
batch (update="first") and then fixed; update="each" (Hugging Face peft's default) takes the mean of each batch, "never"
a random direction. Starts, trains (r (d_in + d_out)) and merges as LoRA.
x̃ is never made: (∂hᵀ z) v costs d_in / G times less than ∂hᵀ x̃.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in + d_out). Merges: yes. peft: velora_config.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import is_linear, new_weight, up, weight_of
from .lora import LoRA


def in_groups(x: Float[Tensor, "... d_in"], size: int) -> Float[Tensor, "... groups {size}"]:
    """x in groups of `size` features, the last filled up with zeros."""
    return F.pad(x, (0, -x.shape[-1] % size)).unflatten(-1, (-1, size))


class Compressed(torch.autograd.Function):
    """A x, which keeps x only as its components along v."""

    @staticmethod
    def forward(ctx, x: Tensor, A: Tensor, v: Tensor, times: float) -> Tensor:
        ctx.save_for_backward(in_groups(x, len(v)) @ v, A, v)
        ctx.times = times
        return F.linear(x, A)

    @staticmethod
    def backward(ctx, g: Tensor):
        z, A, v = ctx.saved_tensors
        gz = g.flatten(0, -2).T @ z.flatten(0, -2)
        grad_A = ctx.times * (gz[..., None] * v).flatten(1)[:, : A.shape[1]]
        return g @ A if ctx.needs_input_grad[0] else None, grad_A, None, None


class VeLoRA(LoRA):
    """LoRA with a thrifty, inexact gradient of A; `times` scales what is rebuilt."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        groups: int = 64,
        update: str = "first",
        times: float = 1.0,
        dropout: float = 0.0,
        rslora: bool = False,
    ):
        if not is_linear(base):
            raise ValueError(
                f"VeLoRA groups the features of a vector: target Linear or Conv1D, not {type(base).__name__}"
            )
        d_in = weight_of(base).shape[1]
        if update not in ("first", "each", "never") or not 1 <= groups <= d_in or times <= 0:
            raise ValueError(
                f"VeLoRA needs update 'first', 'each' or 'never', 1 to {d_in} groups and times above 0, "
                f"not update={update!r}, groups={groups}, times={times}"
            )
        super().__init__(base, rank, alpha, dropout, rslora)
        self.n_groups, self.update, self.times = groups, update, times
        v = new_weight(base, -(-d_in // groups)).detach()
        self.register_buffer("v", F.normalize(v.normal_(), dim=0) if update == "never" else v)

    def learned(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        if not (self.training and torch.is_grad_enabled()):
            return super().learned(x)
        x = x.to(self.A.dtype)
        self.observe(x.detach())
        return self.scale * up(self.base, Compressed.apply(x, self.A, self.v.clone(), self.times), self.B)

    @torch.no_grad()
    def observe(self, x: Float[Tensor, "... d_in"]) -> None:
        """Set v to the direction of the mean group: once, each time or never."""
        mean = in_groups(x, len(self.v)).flatten(0, -2).mean(0)
        if self.update == "each":
            self.v.copy_(F.normalize(mean, dim=0))
        elif self.update == "first":  # without asking the device whether v is set
            self.v.copy_(torch.where(self.v.any(), self.v, F.normalize(mean, dim=0)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, groups={self.n_groups}, update={self.update}, times={self.times:g}"
