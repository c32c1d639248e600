"""QLoRA: LoRA over a frozen base of 4 bits.  Dettmers et al. 2023, arXiv:2305.14314, section 3, equation 5.

    y = dequantise(W4) x + s B A x        W4: (d_out, d_in) in NF4, 4.127 bits a weight with its constants

Only storage has 4 bits: both products are computed in the dtype of x, and A and B are plain LoRA. The gradient reaches
them through the dequantised weight, which is made again in the backward pass and never kept.
B = 0: starts as the quantised base, which is not the base as it was: what rounding took is what LoRA must win back.
Head, embeddings and norms keep their 16 bits.
Merges exactly into a plain layer (`merge`), or with a second rounding into a 4-bit one (`quant.merge_4bit`).
To start nearer to the base, with LoftQ (its values lie on the code already, so that to quantise them changes nothing):

    quantised, targets = loftq(model, sites, partial(rounded, double=False))
    model = inject(quantize_(quantised, sites, double=False), targets)

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in + d_out). Merges: yes.
"""

from functools import partial

from torch import nn

from ...adapt import inject
from ...quant import quantize_
from ..parts import Sites
from .lora import LoRA


def qlora(
    model: nn.Module,
    sites: Sites = "all-linear",
    rank: int = 8,
    alpha: float = 16,
    code: str = "nf4",
    block: int = 64,
    double: bool = True,
    **settings,
) -> nn.Module:
    """`model` itself, with 4-bit layers at `sites` and LoRA over each; `settings` are LoRA's (dropout, rslora, ...)."""
    factory = partial(LoRA, rank=rank, alpha=alpha, **settings)
    return inject(quantize_(model, sites, code, block, double), {sites: factory})
