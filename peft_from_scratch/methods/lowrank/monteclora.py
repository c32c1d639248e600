"""MonteCLoRA: train LoRA's A as the mean of a distribution.  Seth et al. 2024, arXiv:2411.04358, section 4.

    train:  A + ε Σ_n π_n Z_n diag(√v)    Z_n: (d_in, r) normal, n = 1 ... N (transposed as A is)
            v_i = e^(2 p_i) u_i,  u_i ~ χ²_r,  the diagonal of a Wishart matrix        p: (r,) trained
            π = softmax(μ + σ ⊙ z),  a Dirichlet(e^q) in its Laplace approximation     q: (N,) trained
    eval:   A, as LoRA

The noise keeps the fit from hanging on one A; p and q say how much of it, and `penalty` (add it to the loss) holds them
near their priors. B = 0: starts as the base. Merges as LoRA does.
Hugging Face peft 0.21.2 draws the same from a buffer. Its Dirichlet term has one sign turned round and falls below
zero, which a divergence cannot: `penalty` here is the divergence.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out) + rank + samples. Merges:
yes. peft: monteclora_config.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...layers import down, new_weight, up
from .lora import LoRA


class MonteCLoRA(LoRA):
    """LoRA with `samples` draws of noise around A in training, of the size `noise`."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        samples: int = 8,
        noise: float = 1e-4,
        dropout: float = 0.0,
        rslora: bool = False,
    ):
        if samples < 1 or noise < 0:
            raise ValueError(f"MonteCLoRA needs at least one sample and no negative noise, not {samples} and {noise}")
        super().__init__(base, rank, alpha, dropout, rslora)
        self.samples, self.noise = samples, noise
        self.p = nn.Parameter(nn.init.uniform_(new_weight(base, rank)))
        self.q = nn.Parameter(nn.init.uniform_(new_weight(base, samples)))

    def learned(self, x: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
        A = self.A + self.drawn() if self.training else self.A
        return self.scale * up(self.base, down(self.base, x, A), self.B)

    def drawn(self) -> Float[Tensor, "rank d_in"]:
        """ε Σ_n π_n Z_n diag(√v), as A is stored."""
        Z = torch.randn(self.samples, *self.A.shape, dtype=self.A.dtype, device=self.A.device)
        return self.noise * self.variances().sqrt()[:, None] * torch.einsum("n,nri->ri", self.weights(), Z)

    def variances(self) -> Float[Tensor, " rank"]:
        """v: one draw of the Wishart matrix's diagonal, at least 1e-3."""
        r = self.rank
        u = torch.randn(r, r, dtype=self.p.dtype, device=self.p.device).square().sum(0)
        return ((2 * self.p).exp() * u).clamp_min(1e-3)

    def weights(self) -> Float[Tensor, " samples"]:
        """π: one draw of the mixture's weights."""
        N, inverse = self.samples, (-self.q).exp()
        sigma = (inverse * (1 - 2 / N) + inverse.sum() / N**2).clamp_min(1e-6).sqrt()
        return torch.softmax(self.q - self.q.mean() + sigma * torch.randn_like(self.q), 0)

    def divergence(self, prior: float) -> Float[Tensor, ""]:
        """From the priors: Dirichlet(prior) for π, Wishart(I, r) for the variances, N(0, I) for each sample."""
        dirichlet = torch.distributions.kl_divergence(
            torch.distributions.Dirichlet(self.q.exp()), torch.distributions.Dirichlet(torch.full_like(self.q, prior))
        )
        v, r = self.variances(), self.rank
        wishart = r / 2 * ((2 * self.p).exp() - 2 * self.p - 1).sum()
        return dirichlet + wishart + self.samples / 2 * (v - v.log() - 1).sum()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, samples={self.samples}, noise={self.noise:g}"


def penalty(
    model: nn.Module, weight: float = 1e-5, prior: float = 0.1, concentration: bool = False
) -> Float[Tensor, ""]:
    """To add to the loss: `weight` x the mean divergence of the adapters (and Σ π², against one sample that wins)."""
    if prior <= 0:
        raise ValueError(f"a Dirichlet prior must be above 0, not {prior}")
    found = [a for _, a in adapters(model) if isinstance(a, MonteCLoRA)]
    if not found:
        raise ValueError("this model has no MonteCLoRA adapters, so there is nothing to hold near a prior")
    terms = [weight * a.divergence(prior) + (a.weights().square().sum() if concentration else 0) for a in found]
    return torch.stack(terms).mean()
