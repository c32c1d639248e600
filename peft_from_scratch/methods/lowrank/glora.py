"""GLoRA: one formula for scaling and shifting a layer's weight, input and bias.  Chavan et al. 2023, arXiv:2306.07967.

    y = (W + W ⊙ A + B) x + b + b ⊙ D + E + W C
    A, B: (d_out, d_in), C: (d_in, 1), D, E: (d_out,), each in a form of its own:
    "lora": a product of rank r, (rows, r) zero times (r, columns) random    "vector": one number a row, zero
    "constant": one number, zero                                             "none": left out

A scales the weight (the paper writes W A, its authors' code multiplies entry by entry), B is LoRA's change, C acts like
a prompt added to the input, D and E scale and shift the bias. C, D and E exist only where the layer has a bias.
All start at zero, so the layer starts as it was. The paper finds each layer's forms by an evolutionary search: targets
can have different ones.

Kind: reparametrized. On: Linear, Conv1D. Trains: 2 * rank * (d_in + d_out) + rank * (d_in + 1) + 2. Merges: yes. peft:
GLORA.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import is_linear, new_weight, weight_of, with_weight
from ..maths import full_change


class Support(nn.Module):
    """One of A to E; called, it gives a tensor that fits (rows, columns), or (rows,) where columns is 0."""

    def __init__(self, base: nn.Module, form: str, rows: int, columns: int, rank: int):
        super().__init__()
        self.form = form
        if form == "lora":
            self.left, self.right = new_weight(base, rows, rank), new_weight(base, rank, columns)
            nn.init.uniform_(self.right, -1 / math.sqrt(columns), 1 / math.sqrt(columns))
        elif form != "none":
            shape = (1,) if form == "constant" else (rows, 1) if columns else (rows,)
            self.value = new_weight(base, *shape)

    def forward(self) -> Float[Tensor, "..."] | float:
        if self.form == "none":
            return 0.0
        return self.left @ self.right if self.form == "lora" else self.value


class GLoRA(Adapter):
    """`base` (Linear or Conv1D) with A and B in the form `AB`, C in the form `C`, D and E in the form `DE`."""

    def __init__(self, base: nn.Module, rank: int = 8, AB: str = "lora", C: str = "lora", DE: str = "constant"):
        super().__init__(base)
        _check(base, rank, AB, C, DE)
        d_out, d_in = weight_of(base).shape
        self.rank, self.forms = rank, (AB, C, DE)
        if base.bias is None:
            C = DE = "none"
        self.A, self.B = Support(base, AB, d_out, d_in, rank), Support(base, AB, d_out, d_in, rank)
        self.C = Support(base, C, d_in, 1, rank)
        self.D, self.E = Support(base, DE, d_out, 0, rank), Support(base, DE, d_out, 0, rank)

    def forward(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        y = self.base(x)
        change = full_change(self.base, x, self.weight_change())
        if self.base.bias is not None:
            change = change + self.bias_change()
        return y + change.to(y.dtype)

    def weight_change(self) -> Float[Tensor, "d_out d_in"]:
        """W ⊙ A + B, in float32 beside a half-precision W."""
        W = weight_of(self.base)
        return W.to(torch.promote_types(W.dtype, torch.float32)) * self.A() + self.B()

    def bias_change(self) -> Float[Tensor, " d_out"]:
        """b ⊙ D + E + W C."""
        b, C = self.base.bias, self.C()
        WC = 0.0 if isinstance(C, float) else (weight_of(self.base).to(C.dtype) @ C).squeeze(1)
        return b * self.D() + self.E() + WC

    def merged(self) -> nn.Module:
        new = with_weight(self.base, weight_of(self.base) + self.weight_change())
        if new.bias is not None:
            b = (self.base.bias + self.bias_change()).detach()
            new.bias = nn.Parameter(b.to(self.base.bias.dtype), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return "rank={}, AB={}, C={}, DE={}".format(self.rank, *self.forms)


def _check(base: nn.Module, rank: int, AB: str, C: str, DE: str) -> None:
    """ValueError where the layer or a form does not fit."""
    if not is_linear(base):
        raise ValueError(f"GLoRA changes the weight and bias of a Linear or Conv1D; {type(base).__name__} is neither")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    allowed = {"AB": "lora vector constant none", "C": "lora vector none", "DE": "vector constant none"}
    for name, form in (("AB", AB), ("C", C), ("DE", DE)):
        if form not in allowed[name].split():
            raise ValueError(f"{name} must be one of {allowed[name].split()}, not {form!r}")
    if AB == "none" and (base.bias is None or C == DE == "none"):
        raise ValueError("nothing would train: AB is 'none', and C, D and E are 'none' or the layer has no bias")
