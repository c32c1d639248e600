"""Arithmetic that several methods share: small pure functions, in sections."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..layers import down

# A whole change of a weight ------------------------------------------------------------------------------------------


def full_change(layer: nn.Module, x: Tensor, change: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "..."]:
    """(ΔW) x for a ΔW as large as the layer's own W; in a grouped convolution each group has its own rows of it."""
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(x.to(change.dtype), change.reshape(layer.weight.shape), None)
    return down(layer, x, change)


# Tucker: a convolution's weight from two factors and a small kernel ---------------------------------------------------


def tucker(
    B: Float[Tensor, "d_out rank"], T: Float[Tensor, "rank rank height width"] | None, A: Float[Tensor, "rank inputs"]
) -> Float[Tensor, "d_out d_in"]:
    """B A, or with kernels in between: the flattened weight of a convolution."""
    return B @ A if T is None else torch.einsum("pi,ijkl,jq->pqkl", B, T, A).flatten(1)


# Cayley: rotations from skew-symmetric matrices ----------------------------------------------------------------------


def skew(upper: Float[Tensor, "*batch n"], size: int) -> Float[Tensor, "*batch {size} {size}"]:
    """The matrix Q = -Qᵀ whose entries above the diagonal are `upper`, row by row; n = size (size - 1) / 2."""
    rows, columns = torch.triu_indices(size, size, 1, device=upper.device)
    Q = upper.new_zeros(*upper.shape[:-1], size, size)
    Q[..., rows, columns] = upper
    return Q - Q.mT


def cayley(Q: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """The rotation (I - Q)⁻¹ (I + Q) of a skew-symmetric Q; Q = 0 gives I. With -Q: its inverse."""
    I = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)  # noqa: E741
    return torch.linalg.solve(I - Q, I + Q)


def cayley_neumann(Q: Float[Tensor, "*batch n n"], terms: int) -> Float[Tensor, "*batch n n"]:
    """`cayley` without the inverse: (I + Q) (I + Q + Q² + ...), up to the power terms - 1; not quite a rotation.

    Qiu et al. 2025, arXiv:2506.19847: (I - Q)⁻¹ is the sum of all powers of Q where they shrink.
    """
    I = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)  # noqa: E741
    total, power = I, I
    for _ in range(terms - 2):
        power = power @ Q
        total = total + power
    return total + Q @ total if terms > 1 else total


# Frozen random numbers from a seed -----------------------------------------------------------------------------------


def random_positions(d_out: int, d_in: int, n: int, seed: int) -> Int[Tensor, "2 {n}"]:
    """n different entries (row, column) of a d_out by d_in matrix, the same on every machine: drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randperm(d_out * d_in, generator=generator, device="cpu")[:n]
    return torch.stack([flat // d_in, flat % d_in])


# Singular values -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def top_svd(
    W: Float[Tensor, "m n"], rank: int, niter: int | None = None, seed: int = 0
) -> tuple[Float[Tensor, "m {rank}"], Float[Tensor, "{rank}"], Float[Tensor, "{rank} n"]]:
    """The `rank` largest singular values and their vectors: W ≈ U diag(S) Vᵀ; returns U, S, Vᵀ.

    `niter`: fast but not exact, by so many power iterations from random vectors (Halko et al. 2009, arXiv:0909.4061).
    """
    if niter is None:
        U, S, Vt = torch.linalg.svd(W, full_matrices=False)
    else:
        with torch.random.fork_rng():  # svd_lowrank takes no generator
            torch.manual_seed(seed)
            U, S, V = torch.svd_lowrank(W, q=rank, niter=niter)
        Vt = V.T
    return U[:, :rank].contiguous(), S[:rank].contiguous(), Vt[:rank].contiguous()


def svd(
    W: Float[Tensor, "d_out d_in"],
) -> tuple[Float[Tensor, "d_out k"], Float[Tensor, " k"], Float[Tensor, "k d_in"]]:
    """U, singular values and Vᵀ with W = U diag(s) Vᵀ, in float32 at least; the signs of vectors are the driver's."""
    W = W.detach()
    return torch.linalg.svd(W.to(torch.promote_types(W.dtype, torch.float32)), full_matrices=False)


# Kronecker products --------------------------------------------------------------------------------------------------


def factors(d: int, factor: int = -1) -> tuple[int, int]:
    """Two numbers whose product is d: `factor` first where it divides d, else the squarest pair, the smaller one first.

    A positive `factor` that does not divide d is the largest allowed first number.
    """
    if factor > 0 and d % factor == 0:
        return factor, d // factor
    largest = d if factor == -1 else factor
    first = max(m for m in range(1, min(largest, int(d**0.5)) + 1) if d % m == 0)
    return first, d // first


def kronecker_times(
    A: Float[Tensor, "m n"], B: Float[Tensor, "p q"], x: Float[Tensor, "*batch d_in"]
) -> Float[Tensor, "*batch d_out"]:
    """(A ⊗ B) x without the product: x as a matrix X of shape (n, q), then A X Bᵀ as a vector again."""
    X = x.unflatten(-1, (A.shape[1], B.shape[1]))
    XB = nn.functional.linear(X, B).mT.contiguous()  # or no_grad would take another way, and round otherwise
    return nn.functional.linear(XB, A).mT.flatten(-2)


# Walsh-Hadamard ------------------------------------------------------------------------------------------------------


def walsh_hadamard(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """H x, where H is the n by n matrix of ±1 with H Hᵀ = n I, in n log n additions; n must be a power of two."""
    n, block = x.shape[-1], 1
    if n & (n - 1):
        raise ValueError(f"the Walsh-Hadamard transform needs a power of two, not {n}: pad with zeros")
    while block < n:
        a, b = x.unflatten(-1, (-1, 2, block)).unbind(-2)
        x = torch.stack((a + b, a - b), -2).flatten(-3)
        block *= 2
    return x


# Clusters ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def k_means(points: Float[Tensor, "n d"], k: int, steps: int = 10, seed: int = 0) -> Int[Tensor, "n"]:
    """A cluster number below k for every point, by Lloyd's steps from k points drawn at random; none is left empty."""
    draw = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:k]
    centres = points[draw.to(points.device)]
    for _ in range(steps):
        nearest = torch.cdist(points, centres).argmin(1)
        member = nn.functional.one_hot(nearest, len(centres)).to(points.dtype)
        size = member.sum(0)[:, None]
        centres = torch.where(size > 0, member.T @ points / size.clamp_min(1), centres)
    return torch.cdist(points, centres).argmin(1).unique(return_inverse=True)[1]


# Orthonormal rows ----------------------------------------------------------------------------------------------------


def orthonormal_rows(M: Float[Tensor, "n rank"]) -> Float[Tensor, "rank n"]:
    """R with R Rᵀ = I and the columns of M as its span: Gram and Schmidt's, by QR. It does not change if M is scaled.

    QR alone leaves the signs to the driver, and they jump where an entry of M goes through zero: they are set here.
    """
    Q, T = torch.linalg.qr(M)
    return (Q * torch.where(T.diagonal() < 0, -1.0, 1.0).to(Q.dtype)).T
