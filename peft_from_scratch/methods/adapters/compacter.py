"""Compacter: adapters whose matrices are sums of Kronecker products.  Mahabadi et al. 2021, arXiv:2106.04647,
section 3.

    y = f + A(f),  A(f) = U φ(D f + b_D) + b_U,  D and U each of the form  W = Σ_i A_i ⊗ (s_i t_iᵀ),  i = 1 ... n

A_i: (n, n), shared by all matrices of all blocks;  s_i: (d_out / n), t_i: (d_in / n) of each matrix. φ = GELU.
The A_i start as normals of deviation 0.0001, so that D and U nearly vanish: nearly as the base. Compacter stands where
Houlsby's adapters do; Compacter++ only after the feed-forward layer (the `adapters` library: at Pfeiffer's place).
Trains 3 (d + size) numbers a site and n³ for all. Never forms W: x, as n rows of d_in / n, meets the t_i, then the A_i,
then the s_i: n (d_in + d_out + n²) products, not d_in d_out.

    model = inject(model, compacter(model, size=24))

Method: Compacter. Paper: Mahabadi et al. 2021, arXiv:2106.04647 §3. Kind: hybrid. On: blocks of BERT, GPT-2, Llama, T5
(places.py): both sub-layers. Trains: n**3 + 3 * (d_out + size). Merges: no.

Method: Compacter++. Paper: Mahabadi et al. 2021, arXiv:2106.04647 §4.1. Kind: hybrid. On: blocks of BERT, GPT-2, Llama,
T5 (places.py): the feed-forward layer. Trains: n**3 + 3 * (d_out + size). Merges: no.
"""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight
from ...targets import Targets
from .bottleneck import width
from .houlsby import Serial
from .places import Places, blocks, targets


class Rule(nn.Module):
    """The A_i: one object that every adapter of a set holds."""

    def __init__(self, layer: nn.Module, n: int = 4):
        super().__init__()
        if n < 1:
            raise ValueError(f"n, the number of Kronecker products, must be at least 1, not {n}")
        self.A = nn.init.normal_(new_weight(layer, n, n, n), std=1e-4)


class KroneckerSum(nn.Module):
    """W x + b with W = Σ_i A_i ⊗ (s_i t_iᵀ)."""

    def __init__(self, layer: nn.Module, rule: Rule, d_in: int, d_out: int):
        super().__init__()
        n = len(rule.A)
        for d in d_in, d_out:
            if d % n:
                fits = [m for m in range(2, 17) if d_in % m == 0 and d_out % m == 0]
                raise ValueError(f"n = {n} must divide {d_in} and {d_out}: {fits or 'only 1'} would, or change size")
        self.rule = rule
        self.s, self.t = new_weight(layer, n, d_out // n), new_weight(layer, n, d_in // n)
        self.b = new_weight(layer, d_out)
        for v in self.s, self.t:  # Glorot's range for a column
            bound = (6 / (v.shape[1] + 1)) ** 0.5
            nn.init.uniform_(v, -bound, bound)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        x = F.linear(x.unflatten(-1, (len(self.t), -1)), self.t)  # x_a · t_i, of shape (..., a, i)
        x = torch.einsum("ipa,...ai->...pi", self.rule.A, x)
        return (x @ self.s).flatten(-2) + self.b


class Compact(nn.Module):
    """A with compact D and U."""

    def __init__(self, layer: nn.Module, rule: Rule, size: int):
        super().__init__()
        d = width(layer)
        self.D, self.U = KroneckerSum(layer, rule, d, size), KroneckerSum(layer, rule, size, d)

    def forward(self, h: Shaped[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.U(F.gelu(self.D(h.to(self.D.b.dtype))))

    def extra_repr(self) -> str:
        return f"size={len(self.D.b)}, n={len(self.D.s)}"


def compacter(
    model: nn.Module, size: int = 24, n: int = 4, attention: bool = True, places: Places | None = None
) -> Targets:
    """What `inject(model, ...)` needs; without `attention` it is Compacter++."""
    found = blocks(model, places)
    make = partial(Compact, rule=Rule(found[0].norm, n), size=size)
    chosen = targets(found, "feed_forward", Serial, make)
    return targets(found, "attention", Serial, make) | chosen if attention else chosen
