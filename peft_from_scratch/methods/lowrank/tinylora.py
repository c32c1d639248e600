"""TinyLoRA: LoRA-XS with a handful of trained numbers, even one.  Morris et al. 2026, arXiv:2602.04118.

    y = W x + B (Σ_i v_i P_i) A x   W ≈ U Σ Vᵀ to rank r;  A = Vᵀ, B = U Σ frozen;  P_i: (r, r) frozen, random;  v: (u)

v = 0: the layer starts as it was. Trains u numbers a layer, or a group of layers: `tie` = 0 gives each its own v, 1 one
v for the whole model. With u = r² and unit matrices for P this is LoRA-XS. peft takes A = Σ^½ Vᵀ and B = U Σ^½
(`split`), so that both have norms alike; its random P_i are those drawn here.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: numbers. Merges: yes. peft: TINYLORA.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight
from ...targets import Factory
from ..parts import Sites, beside, layers_at, place
from .loraxs import LoRAXS, frame


class Vector(nn.Module):
    """The trained v of a group of layers."""

    def __init__(self, layer: nn.Module, numbers: int):
        super().__init__()
        self.v = new_weight(layer, numbers)


def shared(
    model: nn.Module,
    sites: Sites,
    rank: int = 2,
    numbers: int = 64,
    tie: float = 0.0,
    seed: int = 42,
    split: bool = False,
) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of TinyLoRA adapters, whose v is one for each group."""
    if numbers < 1 or not 0 <= tie <= 1:
        raise ValueError(f"numbers must be at least 1 and tie between 0 and 1, not numbers={numbers} and tie={tie}")
    layers = layers_at(model, sites)
    groups = max(1, round(len(layers) * (1 - tie)))
    vectors = [Vector(layers[0], numbers) for _ in range(groups)]
    size = len(layers) // groups

    def factory(base: nn.Module) -> TinyLoRA:
        i = place(layers, base)
        return TinyLoRA(base, vectors[min(i // size, groups - 1)], random(base, numbers, rank, seed + i), split)

    return factory


def random(base: nn.Module, numbers: int, rank: int, seed: int) -> Float[Tensor, "numbers rank rank"]:
    """P_i ~ N(0, 1 / r), from a seed of this layer. An embedding's are mirrored, since peft's W there is our Wᵀ."""
    generator = torch.Generator().manual_seed(seed)
    P = torch.normal(0.0, rank**-0.5, (numbers, rank, rank), generator=generator, device="cpu")
    return P.mT if isinstance(base, nn.Embedding) else P


class TinyLoRA(LoRAXS):
    """`base` plus B (Σ v_i P_i) A with the `vector` of its group: see `shared`."""

    def __init__(self, base: nn.Module, vector: Vector, P: Float[Tensor, "numbers rank rank"], split: bool = False):
        Adapter.__init__(self, base)
        A, B = frame(base, P.shape[-1], 0.5 if split else 1.0)
        self.vector = vector
        for name, t in ("A", A), ("B", B), ("P", beside(base, P).contiguous()):
            self.register_buffer(name, t)

    def core(self) -> Float[Tensor, "rank rank"]:
        return torch.einsum("i,ijk->jk", self.vector.v, self.P)

    def extra_repr(self) -> str:
        return f"rank={len(self.A)}, numbers={len(self.vector.v)}"
