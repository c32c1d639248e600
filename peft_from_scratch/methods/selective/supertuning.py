"""Super-tuning: train the largest weights, few of each layer.  arXiv:2607.09287.

    y = (W + S) x + b + (α / r) B A x        S non-zero where |W| is among its largest (1 - sparsity) share

S = 0 and B = 0: starts as the base. Trains ⌊d_in d_out (1 - sparsity)⌋ numbers a layer; with `rank` (the paper's
hybrid, Supra) also the LoRA term with r (d_in + d_out). `smallest` takes the other end: which is better depends on the
task.

Paper: see the source 2026, arXiv:2607.09287. Kind: selective. On: Linear, Conv1D, Embedding, Conv2d. Trains: int(d_in *
d_out * (1 - sparsity)) + rank * (d_in + d_out). Merges: yes. peft: SUPERTUNING.
"""

import math

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_weight, refuse_4bit, up, weight_of, with_weight
from .sparse import Sparse


class SuperTuning(Sparse):
    """`base` with its largest weights trained, and a LoRA beside them where `rank` is above 0 (alpha: 2 rank)."""

    def __init__(
        self, base: nn.Module, sparsity: float = 0.99, smallest: bool = False, rank: int = 0, alpha: float | None = None
    ):
        refuse_4bit(base, "Super-tuning")
        d_out, d_in = weight_of(base).shape
        n = int(d_out * d_in * (1 - sparsity))  # rounded down, also where 1 - 0.9 is a little less than 0.1
        if not 0 <= sparsity < 1 or n < 1 or rank < 0 or (rank and alpha is not None and alpha <= 0):
            raise ValueError(
                f"sparsity must be in [0, 1) and leave a weight to train, rank at least 0, alpha above 0: sparsity="
                f"{sparsity} leaves {n} of {d_out * d_in} weights; rank={rank}, alpha={alpha}"
            )
        super().__init__(base, base.weight.detach().abs().flatten().topk(n, largest=not smallest).indices)
        self.rank, self.scale = rank, (2 if alpha is None else alpha / rank) if rank else 0.0
        self.A = nn.init.kaiming_uniform_(new_weight(base, rank, d_in), a=math.sqrt(5)) if rank else None
        self.B = new_weight(base, d_out, rank) if rank else None

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = super().forward(x)
        return y + (self.scale * up(self.base, down(self.base, x, self.A), self.B)).to(y.dtype) if self.rank else y

    def merged(self) -> nn.Module:
        new = super().merged()
        return with_weight(new, weight_of(new) + self.low_rank()) if self.rank else new

    def low_rank(self) -> Float[Tensor, "d_out d_in"]:
        """(α / r) B A."""
        return self.scale * self.B @ self.A

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", rank={self.rank}, scale={self.scale:g}" if self.rank else "")
