"""PVeRA: VeRA whose inner activations are random.  Fillioux et al. 2025, arXiv:2512.07703.

    y = W x + Λ_b B h      (μ, log σ²) = the halves of Λ_d A x,   h = μ + σ ε,   ε ~ N(0, I)
    A: (2r, d_in), B: (d_out, r) frozen, random, shared;  Λ_b = diag(d_out numbers), Λ_d = diag(2r numbers)

It samples in training; at inference h = μ, or a sample each time with `sample_at_inference`: several passes then show
how sure the model is. λ_b = 0: the layer starts as it was. Merges with h = μ.

Kind: reparametrized. On: Linear, Conv1D, Embedding. Trains: 2 * rank + d_out. Merges: yes. peft: PVERA.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...targets import Factory
from ..parts import Sites, layers_at
from .vera import Projection, VeRA


def shared(model: nn.Module, sites: Sites, rank: int = 256, seed: int = 0, saved: bool = False, **settings) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of PVeRA adapters around one projection."""
    projection = Projection(layers_at(model, sites), 2 * rank, rank, seed, saved)
    return lambda base: PVeRA(base, projection, **settings)


class PVeRA(VeRA):
    """`base` plus Λ_b B h, h normal around VeRA's Λ_d A x."""

    def __init__(self, base: nn.Module, projection: Projection, sample_at_inference: bool = False, **settings):
        super().__init__(base, projection, **settings)
        self.sample_at_inference = sample_at_inference

    def latent(self, h: Float[Tensor, "... twice"]) -> Float[Tensor, "... rank"]:
        mean, log_variance = h.chunk(2, -1)
        if not (self.training or self.sample_at_inference):
            return mean
        deviation = (log_variance / 2).exp()
        return mean + torch.randn_like(deviation) * deviation

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """Of the mean: the first r rows of A."""
        rank = len(self.lambda_d) // 2
        return (self.lambda_b[:, None] * self.B()) @ (self.lambda_d[:rank, None] * self.A()[:rank])

    def merged(self) -> nn.Module:
        if self.sample_at_inference:
            raise NotImplementedError("PVeRA that samples at inference cannot be merged: a weight has no spread")
        return super().merged()

    def extra_repr(self) -> str:
        return super().extra_repr() + (", sample_at_inference=True" if self.sample_at_inference else "")
