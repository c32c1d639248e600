"""VeRA: two random matrices for the whole model, two trained vectors a layer.  Kopiczko et al. 2023, arXiv:2310.11454,
section 3.1.

    y = W x + Λ_b B Λ_d A x    A: (r, d_in), B: (d_out, r) frozen, random, shared;  Λ_b, Λ_d diagonal, trained

Layers of other sizes see the first rows and columns of one A: (r, widest d_in) and one B: (widest d_out, r), both
U(±√(6 / fan_in)) from a seed, so a file need not hold them. λ_b = 0, λ_d = 0.1: the layer starts as it was.
In the order A, λ_d, B, λ_b nothing of the size of A or B gets a gradient.

Kind: reparametrized. On: Linear, Conv1D, Embedding. Trains: rank + d_out. Merges: yes. peft: VERA.
"""

from jaxtyping import Float, Shaped
from torch import Generator, Tensor, empty, nn

from ...layers import down, new_weight, up, weight_of
from ...targets import Factory
from ..parts import SAME_SITES, Added, Sites, beside, layers_at


class Projection(nn.Module):
    """The frozen A and B that serve all `layers`, drawn as peft draws them. `saved`: they are part of the state."""

    def __init__(self, layers: list[nn.Module], rows: int, rank: int, seed: int, saved: bool):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}")
        d_out, d_in = (max(sizes) for sizes in zip(*(weight_of(layer).shape for layer in layers), strict=True))
        generator = Generator().manual_seed(seed)
        for name, shape in ("A", (rows, d_in)), ("B", (d_out, rank)):
            drawn = nn.init.kaiming_uniform_(empty(shape, device="cpu"), generator=generator)
            self.register_buffer(name, beside(layers[0], drawn), persistent=saved)
        self.seed = seed

    def extra_repr(self) -> str:
        return f"A={tuple(self.A.shape)}, B={tuple(self.B.shape)}, seed={self.seed}"


def shared(model: nn.Module, sites: Sites, rank: int = 256, seed: int = 0, saved: bool = False, **settings) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of VeRA adapters around one projection."""
    projection = Projection(layers_at(model, sites), rank, rank, seed, saved)
    return lambda base: VeRA(base, projection, **settings)


class VeRA(Added):
    """`base` plus Λ_b B Λ_d A with the `projection` of its set: see `shared`."""

    def __init__(self, base: nn.Module, projection: Projection, d_initial: float = 0.1, dropout: float = 0.0):
        super().__init__(base)
        if isinstance(base, nn.Conv2d):
            raise TypeError("VeRA cuts A to a layer's inputs, and a convolution's are patches: target other layers")
        d_out, d_in = weight_of(base).shape
        if d_in > projection.A.shape[1] or d_out > len(projection.B):
            raise ValueError(f"the shared A and B are too small for a layer of shape {(d_out, d_in)}: {SAME_SITES}")
        self.projection = projection
        self.lambda_d = nn.init.constant_(new_weight(base, len(projection.A)), d_initial)
        self.lambda_b = new_weight(base, d_out)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def A(self) -> Float[Tensor, "rank d_in"]:
        return self.projection.A[:, : weight_of(self.base).shape[1]]

    def B(self) -> Float[Tensor, "d_out rank"]:
        return self.projection.B[: len(self.lambda_b)]

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y = self.base(x)
        h = self.latent(self.lambda_d * down(self.base, self.dropout(x), self.A()))
        return y + (self.lambda_b * up(self.base, h, self.B())).to(y.dtype)

    def latent(self, h: Float[Tensor, "... rank"]) -> Float[Tensor, "... rank"]:
        """Λ_d A x as it is; a variant may make it random."""
        return h

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return (self.lambda_b[:, None] * self.B()) @ (self.lambda_d[:, None] * self.A())

    def extra_repr(self) -> str:
        return f"rank={self.projection.B.shape[1]}, seed={self.projection.seed}"
