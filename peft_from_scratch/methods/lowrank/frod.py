"""FRoD: one basis for all layers of a role, and in it a diagonal and a few sparse rotations for each.
Wan et al. 2025 (AAAI 2026), arXiv:2512.23485.

    W = U diag(λ₀) Vᵀ             V: (d_in, d_in), of all layers of a role;  U: (d_out, d_in), λ₀: the layer's; frozen
    y = U (diag(λ) + S) Vᵀ x + b  λ: (d_in,) trained from λ₀;  S: sparse, off the diagonal, trained from zero

V needs all these layers' weights, so the factory comes from the model: inject(model, {sites: shared(model, sites)}).
The change has full rank. The layer starts as it was up to rounding, for y does without W.
Trains d_in + ⌊ρ d_in²⌋ numbers a layer (ρ = `sparsity`; at least one in S). U, V and S's places are saved, since two
machines may find different bases of the same weights. With save_basis=False the file holds only what trains, and is
right only where the same basis is found.

Kind: reparametrized. On: Linear, Conv1D. Trains: d_in + max(1, math.floor(sparsity * d_in**2)). Merges: yes. peft:
FROD.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import is_linear, weight_of, with_weight
from ...targets import Factory, plan, twins
from .frod_basis import Basis, own_part, role


class FRoD(Adapter):
    """`base` (Linear or Conv1D) as U (diag(λ) + S) Vᵀ, with V and S's places from `basis`."""

    def __init__(self, base: nn.Module, basis: Basis, dropout: float = 0.0):
        super().__init__(base)
        if not is_linear(base):
            raise ValueError(f"FRoD decomposes the weight of a Linear or Conv1D; {type(base).__name__} is neither")
        self.basis = basis
        U, lam = own_part(weight_of(base).detach(), basis.V)
        self.register_buffer("U", U, persistent=basis.saved)
        self.lam, self.S = nn.Parameter(lam), nn.Parameter(lam.new_zeros(basis.places.shape[1]))
        self.dropout = nn.Dropout(dropout)

    def core(self) -> Float[Tensor, "d_in d_in"]:
        """diag(λ) + S."""
        return torch.diag(self.lam).index_put(tuple(self.basis.places), self.S)

    def forward(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        if self.training and self.dropout.p:  # only the change sees the dropped x
            h = self.dropout(x)
            return self.base(x) - self.base(h) + self.replaced(h)
        return self.replaced(x)

    def replaced(self, x: Shaped[Tensor, "*batch d_in"]) -> Shaped[Tensor, "*batch d_out"]:
        """U (diag(λ) + S) Vᵀ x + b: it takes the place of W x + b."""
        z = F.linear(x.to(self.lam.dtype), self.basis.V.T)
        b = None if self.base.bias is None else self.base.bias.to(z.dtype)
        return F.linear(F.linear(z, self.core()), self.U, b).to(x.dtype)

    def merged(self) -> nn.Module:
        return with_weight(self.base, self.U @ self.core() @ self.basis.V.T)

    def extra_repr(self) -> str:
        return f"places={self.basis.places.shape[1]}"


def shared(
    model: nn.Module,
    sites: str | tuple[str, ...],
    sparsity: float = 0.01,
    ridge: float = 1e-3,
    seed: int = 0,
    dropout: float = 0.0,
    save_basis: bool = True,
) -> Factory:
    """What makes a FRoD for each of `sites` (patterns as `inject` takes them), with one basis for each role."""
    layers: dict[str, list[nn.Module]] = {}
    for module, (site, _) in plan(model, {sites: FRoD}, twins(model)).items():
        layers.setdefault(role(site), []).append(module)
    generator = torch.Generator().manual_seed(seed)
    basis_of: dict[nn.Module, Basis] = {}
    for name in sorted(layers):  # one generator for all, so the order counts
        basis = Basis([weight_of(m) for m in layers[name]], sparsity, ridge, generator, save_basis)
        basis_of |= dict.fromkeys(layers[name], basis)

    def factory(module: nn.Module) -> FRoD:
        if module not in basis_of:
            raise ValueError("a layer outside the basis: give shared() the model and the sites that inject() gets")
        return FRoD(module, basis_of[module], dropout)

    return factory
