"""PiSSA: start LoRA on the principal part of the weight.  Meng et al. 2024, arXiv:2404.02948, section 3.

    W = U diag(σ) Vᵀ,    B = U_r √(σ_r / s),    A = √(σ_r / s) V_rᵀ        U_r: (d_out, r),  V_r: (d_in, r)

s B A is the best rank-r approximation of W, so what trains is the part that matters most and what stays frozen is the
residual. The division by s (the paper has s = 1) keeps that true for every alpha. The layer starts as it was: s B0 A0
is taken off by buffers of the adapter, not off the base, which stays as it was loaded. Trains and merges as LoRA.
`fast_pissa` finds the same part by a randomised SVD, in seconds where the exact one takes minutes.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft:
init_lora_weights='pissa'.
"""

from collections.abc import Callable

import torch
from torch import nn

from ....layers import weight_of
from ..lora import Start
from .spectrum import balanced, enough, spectrum


def pissa(base: nn.Module, rank: int, scale: float) -> Start:
    """The r largest singular values and their vectors. ValueError for a rank above the smaller side of W."""
    U, S, Vt = spectrum(weight_of(base), rank)
    return Start(*balanced(U[:, :rank], S[:rank], Vt[:rank], scale), subtract=True)


def fast_pissa(iterations: int = 16) -> Callable[[nn.Module, int, float], Start]:
    """The start `pissa` by a randomised SVD of so many power iterations, which draws from torch's generator."""

    def start(base: nn.Module, rank: int, scale: float) -> Start:
        U, S, V = torch.svd_lowrank(enough(weight_of(base), rank), q=rank, niter=iterations)
        return Start(*balanced(U, S, V.T, scale), subtract=True)

    return start
