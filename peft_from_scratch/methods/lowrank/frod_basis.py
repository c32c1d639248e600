"""FRoD's joint decomposition: the directions that layers of one role have in common.  arXiv:2512.23485."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Basis(nn.Module):
    """What the layers of one role share: V, and the places of S's entries."""

    def __init__(
        self,
        weights: list[Tensor],
        sparsity: float = 0.01,
        ridge: float = 1e-3,
        generator: torch.Generator | None = None,
        save_basis: bool = True,
    ):
        super().__init__()
        if not 0 < sparsity < 1 or ridge <= 0:
            raise ValueError(f"sparsity must be between 0 and 1 and ridge above 0, not {sparsity} and {ridge}")
        self.saved = save_basis
        self.register_buffer("V", joint_basis(weights, ridge), persistent=save_basis)
        n = len(self.V)
        drawn = torch.randperm(n * (n - 1), generator=generator or torch.Generator().manual_seed(0), device="cpu")
        drawn = drawn[: max(1, min(int(sparsity * n * n), len(drawn)))]
        row, column = drawn // (n - 1), drawn % (n - 1)
        places = torch.stack([row, column + (column >= row)])  # past the diagonal
        self.register_buffer("places", places.to(self.V.device), persistent=save_basis)


@torch.no_grad()
def joint_basis(weights: list[Tensor], ridge: float) -> Float[Tensor, "d_in d_in"]:
    """V of all `weights` (each d_out by d_in): from the stacked matrix, seen by each layer alike.

    Stacked = Q R; each layer owns a slice Q_l. The eigenvectors of the mean of (Q_lᵀ Q_l + ridge I)⁻¹ are the
    directions that the layers have in common; V = Rᵀ times them.
    """
    dtype = torch.promote_types(weights[0].dtype, torch.float32)
    stacked = torch.cat([W.detach().to(dtype) for W in weights])
    if stacked.shape[0] < stacked.shape[1]:
        return torch.linalg.svd(stacked, full_matrices=True).Vh.T.contiguous()
    Q, R = torch.linalg.qr(stacked)
    I = torch.eye(len(R), dtype=dtype, device=R.device)  # noqa: E741
    slices = Q.split([len(W) for W in weights])
    mean = sum(torch.linalg.inv(q.T @ q + ridge * I) for q in slices) / len(slices)
    return R.T @ torch.linalg.eigh(mean).eigenvectors


@torch.no_grad()
def own_part(W: Float[Tensor, "d_out d_in"], V: Tensor) -> tuple[Tensor, Tensor]:
    """U, its columns of length 1, and λ₀ with U diag(λ₀) Vᵀ = W: solved in float64, for V may be ill-conditioned."""
    if W.is_meta:
        return torch.empty_like(W, dtype=V.dtype), V[0].clone()
    B = torch.linalg.lstsq(V.double(), W.double().T).solution.T
    if not torch.allclose(B @ V.double().T, W.double(), atol=1e-3 * W.abs().max().item()):
        raise ValueError("this layer's weight is not in the basis: make the basis of weights that include it")
    lam = B.norm(dim=0)
    return (B / lam.clamp(min=1e-12)).to(V.dtype), lam.to(V.dtype)


def role(site: str) -> str:
    """The part of a name that layers of one kind share: encoder.layer.3.attention.self.query -> self_query."""
    parts = ["", *site.split(".")]
    if parts[-3:] == ["attention", "output", "dense"]:  # BERT has an output.dense in its feed-forward block too
        return "attention_output"
    return parts[-1] if parts[-2].isdigit() else "_".join(parts[-2:])
