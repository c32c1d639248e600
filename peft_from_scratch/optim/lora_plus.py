"""LoRA+: a larger learning rate for B than for A.  Hayou et al. 2024, arXiv:2402.12354, section 4.

    η_B = λ η_A        λ around 16

B starts at zero and A does not: with one rate for both, a wide layer learns from A and B unequally, B too slowly. Only
the optimiser differs from LoRA, so what is trained, saved and merged is LoRA's.

Kind: memory. On: LoRA's A and B. Trains: rank * (d_in + d_out). Merges: yes. peft: create_loraplus_optimizer.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from ..adapt import trained
from .pairs import pairs


def lora_plus(
    model: nn.Module,
    lr: float,
    ratio: float = 16,
    embedding_lr: float | None = None,
    optimizer: Callable[..., Optimizer] = torch.optim.AdamW,
    **settings,
) -> Optimizer:
    """`optimizer` with rate ratio · lr for every B, and lr for the rest that trains; ValueError without a LoRA.

    LoRAs of embeddings get one rate, `embedding_lr` or else lr: there A starts at zero and B does not. peft also gives
    its B rate to every vector (biases, norms, DoRA's m), and embeddings 1e-6; the paper speaks of B only.
    """
    if ratio <= 0 or lr <= 0:
        raise ValueError(f"lr and ratio must be above 0, not {lr} and {ratio}")
    plus = dict.fromkeys(p.B for p in pairs(model, embeddings=False))  # a set has another order in another process
    embedded = [t for p in pairs(model) if isinstance(p.adapter.base, nn.Embedding) for t in (p.A, p.B)]
    special = {*plus, *embedded}
    rest = [p for p in trained(model).values() if p not in special]
    groups = [
        {"params": rest, "lr": lr},
        {"params": list(plus), "lr": ratio * lr},
        {"params": [p for p in embedded if p.requires_grad], "lr": lr if embedding_lr is None else embedding_lr},
    ]
    return optimizer([g for g in groups if g["params"]], lr=lr, **settings)
