"""LoRA-GA: LoRA whose first step is that of full fine-tuning.  Wang et al. 2024, arXiv:2407.05000, section 3.

    G = ∂loss/∂W = U diag(σ) Vᵀ,   A = c V_rᵀ,  B = c U_r..2r,   c = d_out^¼ / √γ        A: (r, d_in),  B: (d_out, r)

A step of gradient descent changes B A by -(η) (B Bᵀ G + G Aᵀ A): with the top r right and the next r left singular
vectors of G, the best approximation of G that a change of rank 2r allows. s B A is taken off, so the layer starts as it
was. The paper uses it with the scale alpha/√r (`rslora=True`). Trains and merges as LoRA.

    seen = gradients(model, "all-linear", batches)
    model = inject(model, {"all-linear": lambda base: LoRA(base, rslora=True, start=lora_ga(seen))})

As in the authors' code, A and B both carry c. `like_peft`: Hugging Face peft 0.21.2 has B = c U diag(σ) and A = Vᵀ,
which makes B A shrink with the gradient. The SVD is randomised, as theirs, and draws from torch's generator.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in + d_out). Merges: yes. peft: init_lora_weights='lora_ga'.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ....layers import weight_of
from ..lora import Start
from .spectrum import spectrum

DIRECTIONS = {  # which singular vectors go to A, and which to B
    "ArB2r": lambda r: (torch.arange(r), torch.arange(r, 2 * r)),
    "A2rBr": lambda r: (torch.arange(r, 2 * r), torch.arange(r)),
    "ArBr": lambda r: (torch.arange(1, 2 * r, 2), torch.arange(0, 2 * r, 2)),
    "random": lambda r: torch.randperm(2 * r).chunk(2),
}
SCALES = {  # what both are multiplied by
    "stable": lambda base, rank, scale, gamma: weight_of(base).shape[0] ** 0.25 / gamma**0.5,
    "gd": lambda base, rank, scale, gamma: 1 / scale,
    "weight": lambda base, rank, scale, gamma: (spectrum(weight_of(base), rank)[1][:rank] / scale).sqrt().mean(),
    "unit": lambda base, rank, scale, gamma: 1.0,
}


def lora_ga(
    gradients: dict[nn.Module, Float[Tensor, "d_out d_in"]],
    direction: str = "ArB2r",
    scaling: str = "stable",
    gamma: float = 16,
    like_peft: bool = False,
) -> Callable[[nn.Module, int, float], Start]:
    """A start from each layer's gradient. ValueError for a layer without one, or a rank above half its directions."""
    if direction not in DIRECTIONS or scaling not in SCALES:
        raise ValueError(f"direction is one of {[*DIRECTIONS]}, scaling of {[*SCALES]}: not {direction}, {scaling}")
    if like_peft and scaling != "stable":
        raise ValueError("like_peft is its arithmetic for scaling='stable' alone")

    def start(base: nn.Module, rank: int, scale: float) -> Start:
        if base not in gradients:
            raise ValueError("no gradient was collected for this layer: use the same sites for both, on the same model")
        G = gradients[base].to(torch.promote_types(gradients[base].dtype, torch.float32))
        if 2 * rank > min(G.shape):
            raise ValueError(f"LoRA-GA takes 2 x rank directions: use a rank up to {min(G.shape) // 2}, not {rank}")
        U, S, V = torch.svd_lowrank(G, q=min(4 * rank, *G.shape), niter=4)
        to_A, to_B = DIRECTIONS[direction](rank)
        c = SCALES[scaling](base, rank, scale, gamma)
        if like_peft:
            return Start(V.T[to_A].contiguous(), c * U[:, to_B] * S[to_B], subtract=True)
        return Start(c * V.T[to_A], c * U[:, to_B], subtract=True)

    return start
