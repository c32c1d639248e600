"""C3A: a change that is a circular convolution, by Fourier transforms.  Chen et al. 2024, arXiv:2407.19342, section 3.

    y_i = (W x)_i + Σ_j C(w_ij) x_j      x_j, y_i: blocks of b features;  w: (d_out / b, d_in / b, b)
    C(w): b by b, its first row w and each further row shifted by one:  C(w) x = IFFT(FFT(x) · conj(FFT(w)))

b numbers make a b by b matrix that can have full rank; a product costs b log b. w = 0: starts as the base. With
"gaussian", "kaiming" or "xavier" (Hugging Face peft's) it starts changed; section 4.3 finds none better. The authors'
code, which is in peft, also divides by d_in: `divide=True`. Its backward pass, written by hand, sends the input Σ_o w[o
+ i] g[o] (section 3.3 takes C for symmetric); C(w)ᵀ g is Σ_o w[i - o] g[o], which autograd finds.

Kind: reparametrized. On: Linear, Conv1D. Trains: d_out * d_in // block. Merges: yes. peft: C3A.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import is_linear, new_weight, weight_of
from ..parts import Added


class C3A(Added):
    """`base` (Linear or Conv1D) plus block-circular convolution."""

    def __init__(self, base: nn.Module, block: int = 256, start: str = "zero", divide: bool = False):
        super().__init__(base)
        if not is_linear(base):
            raise ValueError(f"C3A convolves the features of a Linear or Conv1D; {type(base).__name__} is neither")
        d_out, d_in = weight_of(base).shape
        common = math.gcd(d_out, d_in)
        if block < 1 or common % block:
            fit = [b for b in range(1, common + 1) if common % b == 0]
            raise ValueError(f"block={block} must divide d_in={d_in} and d_out={d_out}: {fit} do")
        bounds = {"zero": 0.0, "kaiming": 1 / math.sqrt(d_in), "xavier": math.sqrt(6 / (d_in + d_out))}
        if start not in (*bounds, "gaussian"):
            raise ValueError(f"start must be one of {[*bounds, 'gaussian']}, not {start!r}")
        self.block, self.divide = block, divide
        self.scale = 1 / d_in if divide else 1.0
        self.w = new_weight(base, d_out // block, d_in // block, block)
        if start == "gaussian":
            nn.init.normal_(self.w)
        elif start != "zero":
            nn.init.uniform_(self.w, -bounds[start], bounds[start])

    def forward(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        y = self.base(x)
        x = torch.fft.rfft(x.to(self.w.dtype).unflatten(-1, (-1, self.block)))
        z = torch.einsum("...jf,ijf->...if", x, torch.fft.rfft(self.w).conj())
        return y + (self.scale * torch.fft.irfft(z, n=self.block)).flatten(-2).to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """The blocks C(w_ij), entry by entry: C(w)[row, column] = w[column - row]."""
        place = torch.arange(self.block, device=self.w.device)
        circulant = self.w[:, :, (place[None, :] - place[:, None]) % self.block]  # (i, j, row, column)
        return self.scale * circulant.transpose(1, 2).flatten(2).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"block={self.block}" + (", divide=True" if self.divide else "")
