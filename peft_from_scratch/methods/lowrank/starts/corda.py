"""CorDA: start LoRA where the weight meets the data.  Yang et al. 2024, arXiv:2406.05223, section 3.

    W C = U diag(σ) Vᵀ,  C = X Xᵀ    B = U_r √(σ_r / s),   A = √(σ_r / s) V_rᵀ C⁻¹        X: (d_in, tokens)

The singular vectors of W C order the directions of W by their use on the data. mode "ipm" (instruction-previewed)
adapts the r most used for the task at hand; "kpm" (knowledge-preserved) the r least used for what is to be remembered.
s B A is that part of W; it is taken off, so the layer starts as it was. Trains and merges as LoRA.

    seen = covariances(model, "all-linear", batches)
    model = inject(model, {"all-linear": lambda base: LoRA(base, start=corda(seen, "ipm"))})

A d_in x d_in matrix a layer is held meanwhile. Each batch is divided by its largest |x|, against overflow; the authors'
code and Hugging Face peft divide by |largest x|, which grows without bound where no x is positive.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in + d_out). Merges: yes. peft: init_lora_weights='corda'.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....layers import weight_of
from ...parts import Sites
from ..lora import Start
from .collect import Batch, each_input
from .spectrum import balanced, enough, spectrum


def covariances(
    model: nn.Module,
    sites: Sites,
    batches: Iterable[Batch],
    keep: Callable[[Batch], Tensor | None] = lambda batch: None,
) -> dict[nn.Module, Float[Tensor, "d_in d_in"]]:
    """The mean of X Xᵀ over the batches for each linear layer at `sites`, X scaled to a largest entry of 1."""
    sums: dict[nn.Module, Tensor] = {}
    passes: dict[nn.Module, int] = {}

    def see(layer: nn.Module, x: Tensor) -> None:
        x = x / x.abs().max().clamp_min(torch.finfo(x.dtype).tiny)
        sums[layer], passes[layer] = sums.get(layer, 0) + x.T @ x, passes.get(layer, 0) + 1

    each_input(model, sites, batches, see, keep)
    return {layer: total / passes[layer] for layer, total in sums.items()}


def corda(
    covariances: dict[nn.Module, Float[Tensor, "d_in d_in"]], mode: str = "kpm"
) -> Callable[[nn.Module, int, float], Start]:
    """A start from the covariance of each layer's inputs. ValueError for a layer that was not looked at."""
    if mode not in ("ipm", "kpm"):
        raise ValueError(
            f"mode is 'ipm' (adapt what the task uses most) or 'kpm' (keep what the data uses), not {mode!r}"
        )

    def start(base: nn.Module, rank: int, scale: float) -> Start:
        if base not in covariances:
            raise ValueError(
                "no covariance was collected for this layer: use the same sites for both, on the same model"
            )
        C, inverse = damped(covariances[base])
        U, S, Vt = spectrum(enough(weight_of(base), rank) @ C, rank)
        part = slice(rank) if mode == "ipm" else slice(-rank, None)
        return Start(*balanced(U[:, part], S[part], Vt[part] @ inverse, scale), subtract=True)

    return start


def damped(C: Float[Tensor, "d_in d_in"]) -> tuple[Float[Tensor, "d_in d_in"], Float[Tensor, "d_in d_in"]]:
    """C + d I and its inverse, with the smallest d = 0.01, 0.02, 0.04, ... of C's mean diagonal that inverts well."""
    identity = torch.eye(len(C), dtype=C.dtype, device=C.device)
    damp = 0.01 * C.diagonal().mean()
    while True:
        fixed = C + damp * identity
        inverse = torch.linalg.inv(fixed)
        if torch.dist(fixed @ inverse, identity) < 0.05:
            return fixed, inverse
        damp = 2 * damp
