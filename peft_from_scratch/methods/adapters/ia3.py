"""(IA)³: stretch or shrink activations.  Liu et al. 2022, arXiv:2205.05638, section 3.3.

    y = l ⊙ (W x + b)        l: (d_out), on keys and values
    y = W (l ⊙ x) + b        l: (d_in), on the second matrix of the feed-forward layer: after the non-linearity

l = 1: starts as the base. Merges into the rows (columns) of W, and on keys and values into the bias too: l ⊙ (W x) + b
would be another method.

Kind: additive: other. On: Linear, Conv1D, Conv2d; Embedding (its output). Trains: d_in if feed_forward else d_out.
Merges: yes. peft: IA3.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight, weight_of, with_weight


class IA3(Adapter):
    """`base` with its output scaled, or (`feed_forward`) its input; in a convolution, the channels."""

    def __init__(self, base: nn.Module, feed_forward: bool = False):
        super().__init__(base)
        if feed_forward and isinstance(base, nn.Embedding):
            raise ValueError("the input of an embedding is a token's number, which (IA)³ cannot scale")
        d_out, d_in = weight_of(base).shape
        self.feed_forward = feed_forward
        inputs = base.in_channels if isinstance(base, nn.Conv2d) else d_in
        self.l = nn.Parameter(torch.ones_like(new_weight(base, inputs if feed_forward else d_out)))

    def scale(self, h: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """l ⊙ h, where the features are the last dimension or, in a convolution, the channels."""
        l = self.l[:, None, None] if isinstance(self.base, nn.Conv2d) else self.l  # noqa: E741
        return (l * h).to(h.dtype)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        return self.base(self.scale(x)) if self.feed_forward else self.scale(self.base(x))

    def merged(self) -> nn.Module:
        W = weight_of(self.base)
        if self.feed_forward:
            return with_weight(self.base, self.columns(*W.shape) * W)
        new = with_weight(self.base, self.l[:, None] * W)
        if getattr(new, "bias", None) is not None:
            new.bias = nn.Parameter((self.l * new.bias).detach().to(new.bias.dtype), requires_grad=False)
        return new

    def columns(self, d_out: int, d_in: int) -> Float[Tensor, "{d_out} {d_in}"]:
        """The factor of each entry of W: a channel's l for its whole kernel, where its group of outputs reads it."""
        groups = getattr(self.base, "groups", 1)
        channels = len(self.l) // groups
        l = self.l.view(groups, 1, channels, 1)  # noqa: E741
        return l.expand(groups, d_out // groups, channels, d_in // channels).reshape(d_out, d_in)

    def extra_repr(self) -> str:
        return "feed_forward=True" if self.feed_forward else ""
