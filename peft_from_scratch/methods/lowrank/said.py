"""SAID: tune a model along d random directions.  Aghajanyan et al. 2020, arXiv:2012.13255, section 3. Without λ_i it is
the intrinsic dimension of Li et al. 2018, arXiv:1804.08838.

    W_i = W_i0 + λ_i · the D_i entries of P_i z       z: d numbers for the whole model;  λ_i: one a layer (SAID only)

P_i: (D_i, d) is random and never formed (Fastfood, Le et al. 2013): z, filled with zeros to n = the power of two above
D_i, goes through H G Π H S / (‖G‖ √D_i): random signs S, H the Walsh-Hadamard transform, Π a permutation, G normal
numbers; the first D_i entries stay. On average ‖P z‖ = ‖z‖. Costs n log n additions a layer and step, and 3 n numbers
of memory, drawn from a seed. z = 0: the layer starts as it was. Trains d numbers for the whole model, and one a layer.
The smallest d with 90 % of full fine-tuning's gain is the task's intrinsic dimension.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: numbers + 1. Merges: yes.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import new_weight, weight_of
from ...targets import Factory
from ..maths import full_change, walsh_hadamard
from ..parts import Added, Sites, beside, layers_at, place


class Vector(nn.Module):
    """The trained z of a whole model."""

    def __init__(self, layer: nn.Module, numbers: int):
        super().__init__()
        self.z = new_weight(layer, numbers)


def shared(model: nn.Module, sites: Sites, numbers: int = 1000, seed: int = 0, layer_scales: bool = True) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of adapters around one vector. Seeds count up by layer."""
    layers = layers_at(model, sites)
    smallest = min(weight_of(layer).numel() for layer in layers)
    if not 1 <= numbers <= smallest:
        raise ValueError(
            f"numbers must lie between 1 and {smallest}, the entries of the smallest matrix, not {numbers}"
        )
    vector = Vector(layers[0], numbers)
    return lambda base: SAID(base, vector, seed + place(layers, base), layer_scales)


class SAID(Added):
    """`base` plus λ P z as a matrix, with the `vector` of its set: see `shared`."""

    def __init__(self, base: nn.Module, vector: Vector, seed: int, layer_scale: bool = True):
        super().__init__(base)
        self.vector, self.seed = vector, seed
        n = 1 << (weight_of(base).numel() - 1).bit_length()
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (n,), generator=generator, device="cpu") * 2.0 - 1
        G = torch.randn(n, generator=generator, device="cpu")
        self.register_buffer("signs", beside(base, signs), persistent=False)
        self.register_buffer("G", beside(base, G), persistent=False)
        order = torch.randperm(n, generator=generator, device="cpu").to(base.weight.device)
        self.register_buffer("order", order, persistent=False)
        self.layer_scale = nn.init.ones_(new_weight(base)) if layer_scale else None

    def change(self) -> Float[Tensor, "d_out d_in"]:
        shape, z = weight_of(self.base).shape, self.vector.z
        padded = nn.functional.pad(z, (0, len(self.G) - len(z)))
        mixed = walsh_hadamard(self.G * walsh_hadamard(self.signs * padded)[self.order])
        Pz = mixed[: shape.numel()] / (self.G.norm() * shape.numel() ** 0.5)
        return (Pz if self.layer_scale is None else self.layer_scale * Pz).view(shape)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        return y + full_change(self.base, x, self.change()).to(y.dtype)

    def extra_repr(self) -> str:
        return f"numbers={len(self.vector.z)}, seed={self.seed}"
