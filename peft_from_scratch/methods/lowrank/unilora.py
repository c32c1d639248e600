"""Uni-LoRA: one trained vector for the LoRAs of the whole model.  Li et al. 2025, arXiv:2506.00799, section 3.

    y = W x + B A x       all entries of all A: (r, d_in) and B: (d_out, r), one after the other:  θ_D = P θ_d

P: (D, d) has one non-zero number a row, 1 / √(how many rows share its column): entry i of θ_D is one number of θ_d,
scaled, which one being chosen at random from a seed, each equally often. Then PᵀP = I: distances in θ_d are distances
in θ_D. θ_d starts U(±0.02), so the layers start near what they were, not there: with θ_d = 0 no gradient would come.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: length. Merges: yes. peft: UNILORA.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from ...targets import Factory
from ..parts import Sites, beside, layers_at, place


class Vector(nn.Module):
    """θ_d and, for the layers in their order, which entry of it stands where in A and B."""

    def __init__(self, layers: list[nn.Module], rank: int, length: int, seed: int, bound: float):
        super().__init__()
        if rank < 1 or length < 1:
            raise ValueError(f"rank and length must be at least 1, not rank={rank} and length={length}")
        sizes = [rank * sum(weight_of(layer).shape) for layer in layers]
        indices = balanced(sum(sizes), length, seed)
        self.rank, self.seed, self.parts = rank, seed, indices.split(sizes)
        self.theta = nn.init.uniform_(new_weight(layers[0], length), -bound, bound)
        count = indices.bincount(minlength=length).clamp_min(1)
        self.register_buffer("scale", beside(layers[0], count.rsqrt()), persistent=False)
        self.drawn = f"rank={rank}, length={length}, seed={seed}, entries={len(indices)}"


def balanced(n: int, length: int, seed: int) -> Int[Tensor, " n"]:
    """n numbers below `length`, each as often as the others, shuffled. numpy's generator: the draw of peft."""
    generator = np.random.default_rng(seed)
    each = np.repeat(np.arange(length), n // length)
    if n % length:
        each = np.concatenate([each, generator.choice(length, size=n % length, replace=False)])
    generator.shuffle(each)
    return torch.from_numpy(each)


def shared(
    model: nn.Module, sites: Sites, rank: int = 4, length: int = 256, seed: int = 42, bound: float = 0.02, **settings
) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of Uni-LoRA adapters around one vector."""
    layers = layers_at(model, sites)
    vector = Vector(layers, rank, length, seed, bound)
    return lambda base: UniLoRA(base, vector, place(layers, base), **settings)


class UniLoRA(Adapter):
    """`base` plus B A, read from the `vector` of its set, of which it is the layer `number`: see `shared`."""

    def __init__(self, base: nn.Module, vector: Vector, number: int, dropout: float = 0.0):
        super().__init__(base)
        d_out, d_in = weight_of(base).shape
        A, B = vector.parts[number].to(base.weight.device).split([vector.rank * d_in, d_out * vector.rank])
        self.vector, self.number = vector, number
        self.register_buffer("index_A", A.view(vector.rank, d_in), persistent=False)
        self.register_buffer("index_B", B.view(d_out, vector.rank), persistent=False)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def factors(self) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
        scaled = self.vector.theta * self.vector.scale
        return scaled[self.index_A], scaled[self.index_B]

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, (A, B) = self.base(x), self.factors()
        return y + up(self.base, down(self.base, self.dropout(x), A), B).to(y.dtype)

    def merged(self) -> nn.Module:
        A, B = self.factors()
        return with_weight(self.base, weight_of(self.base) + B @ A)

    def extra_repr(self) -> str:
        return f"{self.vector.drawn}, layer={self.number}"
