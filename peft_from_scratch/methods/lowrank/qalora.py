"""QA-LoRA: a change that a quantised weight can take up.  Xu et al. 2023, arXiv:2309.14717, section 3.3, algorithm 1.

    y = W x + s B A P x        P x: (d_in/g,) the sums of x over groups of g features,  A: (r, d_in/g),  B: (d_out, r)

The change is the same for all g weights of a group. Where W is quantised in groups of g, each with a scale and a zero
point, it fits into the zero points: the merged weight is as small as before, and merging rounds nothing.
B = 0: starts as the base. Merges: W + s B A P (here into a plain weight). The algorithm pools with a mean times g;
Hugging Face peft 0.21.2 multiplies by the number of groups instead: `like_peft`, for its checkpoints.

Kind: reparametrized. On: Linear, Conv1D. Trains: rank * (d_in // group + d_out). Merges: yes. peft: use_qalora.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ...layers import is_linear, new_uniform, new_weight, weight_of
from .lora import LoRA, Start


class QALoRA(LoRA):
    """LoRA on sums over groups of `group` input features."""

    def __init__(
        self,
        base: nn.Module,
        rank: int = 8,
        alpha: float = 16,
        group: int = 32,
        dropout: float = 0.0,
        rslora: bool = False,
        like_peft: bool = False,
    ):
        if not is_linear(base):
            raise ValueError(f"QA-LoRA pools a vector's features: target Linear or Conv1D, not {type(base).__name__}")
        d_in = weight_of(base).shape[1]
        if d_in % group:
            sizes = [g for g in range(2, d_in + 1) if d_in % g == 0]
            raise ValueError(f"{d_in} features do not divide into groups of {group}: use one of {sizes}")
        self.group, self.like_peft = group, like_peft
        super().__init__(base, rank, alpha, dropout, rslora, start=self.grouped)
        self.factor = d_in // group / group if like_peft else 1.0

    def grouped(self, base: nn.Module, rank: int, scale: float) -> Start:
        """A ~ U(±1/√n) over n groups, B = 0."""
        d_out, d_in = weight_of(base).shape
        return Start(new_uniform(base, rank, d_in // self.group), new_weight(base, d_out, rank))

    def learned(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        pooled = x.to(self.A.dtype).unflatten(-1, (-1, self.group)).sum(-1)
        return super().learned(self.factor * pooled)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        return self.factor * super().change().repeat_interleave(self.group, dim=1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group={self.group}" + (", like_peft=True" if self.like_peft else "")
