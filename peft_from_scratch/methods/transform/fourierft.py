"""FourierFT: train a few Fourier coefficients of the change.  Gao et al. 2024, arXiv:2405.03003, section 3.1.

    y = W x + ΔW x      ΔW = α Re(IDFT2(F))     F: (d_out, d_in), zero but for n trained coefficients c at random places

The places come from `seed`, so layers of one shape share them and none is saved. IDFT2 has the factor 1 / (d_out d_in)
of `torch.fft.ifft2`, as in the paper's Algorithm 1 (equation 3 leaves it out), so α is large: 300 there, 150 in peft.
c starts from N(0, 1), in the paper and in Hugging Face peft: the layer starts changed. start="zero": as it was.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: n. Merges: yes. peft: FOURIERFT.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight, weight_of
from ..maths import full_change, random_positions
from ..parts import Added


class FourierFT(Added):
    """`base` plus α Re(IDFT2(F))."""

    def __init__(self, base: nn.Module, n: int = 1000, alpha: float = 150.0, seed: int = 777, start: str = "normal"):
        super().__init__(base)
        d_out, d_in = weight_of(base).shape
        if not 1 <= n <= d_out * d_in:
            raise ValueError(f"n must be from 1 to d_out * d_in = {d_out * d_in}, not {n}")
        if start not in ("normal", "zero"):
            raise ValueError(f"start must be 'normal' (the paper) or 'zero', not {start!r}")
        self.n, self.alpha, self.seed = n, alpha, seed
        self.c = new_weight(base, n)
        if start == "normal":
            nn.init.normal_(self.c)
        places = random_positions(d_out, d_in, n, seed).to(self.c.device)
        self.register_buffer("places", places, persistent=False)  # the seed says them

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """α Re(IDFT2(F)): one transform of d_out d_in log(d_out d_in) operations a step."""
        F = self.c.new_zeros(weight_of(self.base).shape).index_put(tuple(self.places), self.c)
        return self.alpha * torch.fft.ifft2(F).real

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + full_change(self.base, x, self.change()).to(y.dtype)

    def extra_repr(self) -> str:
        return f"n={self.n}, alpha={self.alpha:g}, seed={self.seed}"
