"""LoRA: learn a low-rank change to a frozen matrix.  Hu et al. 2021, arXiv:2106.09685, section 4.1.

    y = W x + s B A x        W: (d_out, d_in) frozen,  A: (r, d_in) random,  B: (d_out, r) zero,  s = alpha / r

B = 0: the adapted layer starts as the layer it wraps. With A = 0 as well, neither would ever get a gradient.
Merges: W + s B A costs nothing at inference.
With `rslora`, s = alpha / sqrt(r): the size of the change stays when r grows (Kalajdzievski 2023, arXiv:2312.03732).
With another `start` (starts/), A and B may be non-zero; s B0 A0 is then taken off, so that the layer starts as it was
(of the same dropped x, so that this also holds in training).
With `bias`, y also gets s b with b: (d_out,) zero, which merges where the layer has a bias.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft: LORA.

Method: rsLoRA. Paper: Kalajdzievski 2023, arXiv:2312.03732 §3. Kind: reparametrized. On: Linear, Conv1D, Embedding,
Conv2d. Trains: rank * (d_in + d_out). Merges: yes. peft: use_rslora.

Method: LoRA with a bias. Paper: Hugging Face peft 0.21.2. Kind: reparametrized. On: Linear, Conv1D, Conv2d.
Trains: rank * (d_in + d_out) + d_out. Merges: yes. peft: lora_bias.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_uniform, new_weight, up, weight_of, with_weight


class Start(NamedTuple):
    """Where A and B begin; `subtract` where B A is not zero there."""

    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]
    subtract: bool = False


def uniform(base: nn.Module, rank: int, scale: float) -> Start:
    """The released code: A ~ U(±1/√d_in), B = 0. Mirrored in an embedding, where a column of A is rarely seen."""
    d_out, d_in = weight_of(base).shape
    if isinstance(base, nn.Embedding):
        return Start(new_weight(base, rank, d_in), nn.init.normal_(new_weight(base, d_out, rank)))
    return Start(new_uniform(base, rank, d_in), new_weight(base, d_out, rank))


class LoRA(Adapter):
    """`base` (Linear, Conv1D, Embedding or Conv2d) plus s B A."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        rslora: bool = False,
        start: Callable[[nn.Module, int, float], Start] = uniform,
        bias: bool = False,
    ):
        super().__init__(base)
        if rank < 1 or alpha <= 0:
            raise ValueError(f"rank must be at least 1 and alpha above 0, not rank={rank} and alpha={alpha}")
        self.rank, self.alpha, self.rslora = rank, alpha, rslora
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)  # not alpha: see the docstring
        A, B, subtract = start(base, rank, self.scale)
        self.A, self.B = nn.Parameter(A.detach()), nn.Parameter(B.detach())
        self.b = new_weight(base, len(B)) if bias else None
        self.register_buffer("A0", A.detach().clone() if subtract else None)
        self.register_buffer("B0", B.detach().clone() if subtract else None)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + self.learned(self.dropout(x)).to(y.dtype)

    def learned(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What the adapter adds to the output: s (B A - B0 A0) x + s b."""
        A, B = self.factors()
        BAx = up(self.base, down(self.base, x, A), B)
        if self.b is not None:
            BAx = BAx + along_features(self.base, self.b)
        return self.scale * BAx

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """What has been learned: s (B A - B0 A0)."""
        A, B = self.factors()
        return self.scale * B @ A

    def factors(self) -> tuple[Float[Tensor, "k d_in"], Float[Tensor, "d_out k"]]:
        """A and B; with a start, those of (B - B0) A + B0 (A - A0) = B A - B0 A0: one product, and 0 at the start."""
        if self.A0 is None:
            return self.A, self.B
        return torch.cat((self.A, self.A - self.A0)), torch.cat((self.B - self.B0, self.B0), 1)

    def merged(self) -> nn.Module:
        new = with_weight(self.base, weight_of(self.base) + self.change())
        if self.b is not None and getattr(new, "bias", None) is None:
            raise NotImplementedError("this layer has no bias to take up LoRA's: it cannot be merged")
        if self.b is not None:
            new.bias = nn.Parameter((new.bias + self.scale * self.b).detach().to(new.bias.dtype), requires_grad=False)
        return new

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}" + (", rslora=True" if self.rslora else "")


def along_features(layer: nn.Module, v: Float[Tensor, " d_out"]) -> Float[Tensor, "..."]:
    """A number an output feature, shaped to meet the layer's output (a convolution's features are dimension 1)."""
    return v[:, None, None] if isinstance(layer, nn.Conv2d) else v
