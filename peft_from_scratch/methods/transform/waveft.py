"""WaveFT: train a few wavelet coefficients of the change.  Bilican et al. 2025, arXiv:2505.12532.

    y = W x + ΔW x      ΔW = α IDWT2(F)      F: zero but for n trained coefficients c at random places
    F is cut into quarters [averages, row details; column details, both]; one inverse wavelet step makes ΔW of them

A coefficient touches a small patch of ΔW (2 by 2 with the Haar wavelet, `order` 1), where one of Fourier's touches all.
Longer Daubechies wavelets (`order` 2, 3, ...; filters of 2 * order numbers) touch larger patches that overlap. With
`order` 0 there is no transform: n entries of ΔW itself, which is SHiRA with a scale.
c starts at zero: the layer starts as it was.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: n. Merges: yes. peft: WAVEFT.
"""

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight, weight_of
from ..maths import full_change, random_positions
from ..parts import Added


class WaveFT(Added):
    """`base` plus α IDWT2(F), with the Daubechies wavelet of `order` (1 is Haar, 0 none)."""

    def __init__(self, base: nn.Module, n: int = 2592, alpha: float = 25.0, order: int = 1, seed: int = 777):
        super().__init__(base)
        d_out, d_in = weight_of(base).shape
        if not 1 <= n <= d_out * d_in:
            raise ValueError(f"n must be from 1 to d_out * d_in = {d_out * d_in}, not {n}")
        if not 0 <= order <= 10:
            raise ValueError(f"order must be from 0 (no wavelet) and 1 (Haar) to 10, not {order}")
        self.n, self.alpha, self.order, self.seed = n, alpha, order, seed
        self.c = new_weight(base, n)
        places = random_positions(d_out, d_in, n, seed).to(self.c.device)
        self.register_buffer("places", places, persistent=False)  # the seed says them
        filters = synthesis_filters(order).to(self.c) if order else None
        self.register_buffer("filters", filters, persistent=False)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """α IDWT2(F)."""
        d_out, d_in = weight_of(self.base).shape
        if self.order == 0:
            return self.alpha * self.c.new_zeros(d_out, d_in).index_put(tuple(self.places), self.c)
        lost = 2 * self.order - 2  # rows and columns, in the step: F is so much larger, with c in its middle
        rows, columns = (d + lost + d % 2 for d in (d_out, d_in))
        top, left = (rows - d_out) // 2, (columns - d_in) // 2
        F = self.c.new_zeros(rows, columns).index_put((self.places[0] + top, self.places[1] + left), self.c)
        quarters = F.unflatten(0, (2, -1)).unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)
        whole = nnf.conv_transpose2d(quarters[None], self.filters, stride=2)[0, 0]
        top, left = (whole.shape[0] - d_out) // 2, (whole.shape[1] - d_in) // 2
        return self.alpha * whole[top : top + d_out, left : left + d_in]

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + full_change(self.base, x, self.change()).to(y.dtype)

    def extra_repr(self) -> str:
        return f"n={self.n}, alpha={self.alpha:g}, order={self.order}, seed={self.seed}"


def daubechies(order: int) -> Float[Tensor, " {2*order}"]:
    """The orthogonal low-pass filter with `order` vanishing moments (Daubechies 1988): spectral factorisation.

    |h(z)|² is fixed by the moments; half of its roots, those inside the unit circle, give the filter of least delay.
    """
    y = np.roots([math.comb(order - 1 + k, k) for k in reversed(range(order))])
    z = [r for v in y for r in np.roots([1, 4 * v - 2, 1]) if abs(r) < 1]  # y = (2 - z - 1/z) / 4
    h = np.poly([-1.0] * order + z).real
    return torch.from_numpy(h * math.sqrt(2) / h.sum())


def synthesis_filters(order: int) -> Float[Tensor, "4 1 length length"]:
    """What one coefficient of each quarter writes: averages, then details along the rows, the columns, both."""
    low = daubechies(order)
    high = low.flip(0) * low.new_tensor([1.0, -1.0]).repeat(order)
    pairs = [(low, low), (high, low), (low, high), (high, high)]
    return torch.stack([torch.outer(a, b) for a, b in pairs])[:, None]
