"""VB-LoRA: all factors are mixed from one bank of vectors.  Li et al. 2024, arXiv:2405.15179, section 3.

    y = W x + B A x      A: (r, d_in), B: (d_out, r), each cut into pieces of b numbers
    piece = Σ over its k largest logits of softmax(logit) · vector          bank: h vectors of b numbers, shared by all

Trains the bank, h b numbers for the whole model, and h logits a piece: h r (d_in + d_out) / b a layer; of those only k
a piece need be stored in the end. The bank starts U(±0.02) and the logits N(0, 0.1²): neither can be zero, so the layer
starts near what it was, not there.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: vectors * length + vectors * rank * (d_in + d_out)
// length. Merges: yes. peft: VBLORA.
"""

import math

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import down, new_weight, up, weight_of, with_weight
from ...targets import Factory
from ..parts import Sites, layers_at


class Bank(nn.Module):
    """The trained vectors of a whole model, h of length b."""

    def __init__(self, layer: nn.Module, vectors: int, length: int, bound: float):
        super().__init__()
        self.vectors = nn.init.uniform_(new_weight(layer, vectors, length), -bound, bound)


def shared(
    model: nn.Module, sites: Sites, vectors: int = 256, length: int = 256, bound: float = 0.02, **settings
) -> Factory:
    """What `inject(model, {sites: ...})` needs: a factory of VB-LoRA adapters around one bank."""
    layers = layers_at(model, sites)
    common = math.gcd(*(d for layer in layers for d in weight_of(layer).shape))
    if length < 1 or common % length:
        fits = [b for b in range(1, common + 1) if common % b == 0]
        raise ValueError(f"length={length} does not divide all widths of the layers: {fits} do")
    bank = Bank(layers[0], vectors, length, bound)
    return lambda base: VBLoRA(base, bank, **settings)


class VBLoRA(Adapter):
    """`base` plus B A, whose pieces are mixtures of `top_k` vectors of the `bank` of its set: see `shared`."""

    def __init__(
        self, base: nn.Module, bank: Bank, rank: int = 4, top_k: int = 2, dropout: float = 0.0, logits_std: float = 0.1
    ):
        super().__init__(base)
        vectors, length = bank.vectors.shape
        if rank < 1 or not 1 <= top_k <= vectors:
            raise ValueError(f"rank must be at least 1 and top_k from 1 to {vectors}, not rank={rank}, top_k={top_k}")
        d_out, d_in = weight_of(base).shape
        self.bank, self.top_k = bank, top_k
        self.logits_A = nn.init.normal_(new_weight(base, rank, d_in // length, vectors), std=logits_std)
        self.logits_B = nn.init.normal_(new_weight(base, d_out // length, rank, vectors), std=logits_std)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def mixed(self, logits: Float[Tensor, "n m vectors"]) -> Float[Tensor, "n m length"]:
        """One mixture a piece; the softmax is over the chosen logits only."""
        best, chosen = logits.topk(self.top_k, -1)
        return (best.softmax(-1)[..., None] * self.bank.vectors[chosen]).sum(-2)

    def factors(self) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
        return self.mixed(self.logits_A).flatten(1), self.mixed(self.logits_B).mT.flatten(0, 1)

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, (A, B) = self.base(x), self.factors()
        return y + up(self.base, down(self.base, self.dropout(x), A), B).to(y.dtype)

    def merged(self) -> nn.Module:
        A, B = self.factors()
        return with_weight(self.base, weight_of(self.base) + B @ A)

    def extra_repr(self) -> str:
        vectors, length = self.bank.vectors.shape
        return f"rank={len(self.logits_A)}, top_k={self.top_k}, vectors={vectors}, length={length}"
