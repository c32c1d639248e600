"""DeLoRA: a low-rank change whose directions are unit vectors and whose size is one number.  Bini et al. 2025,
arXiv:2503.18225, section 2.2.

    y = W x + (λ / r) B Ξ A diag(‖W‖) x    A: (r, d_in),  B: (d_out, r),  Ξ = diag(1 / ‖b_i‖‖a_i‖),  λ: a number
    ‖W‖: the length of each column of W, frozen. The paper writes one norm; its authors' code takes one per column.

However far A and B walk, each of the r terms keeps its length: λ alone says how large the change is.
Zero has no direction, so A and B start random, and the change they make is taken off (eq. 9): it starts as the layer.
start="zero" is Hugging Face peft's: B = 0, and lengths count as 1e-4 or more. The paper found that unstable:
B's first gradient is up to 10 000 times larger.

Kind: reparametrized. On: Linear, Conv1D, Embedding, Conv2d. Trains: rank * (d_in + d_out) + 1. Merges: yes. peft:
DELORA.
"""

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ...layers import down, new_uniform, new_weight, up, weight_of
from ..parts import Added


class DeLoRA(Added):
    """`base` plus (λ/r) B Ξ A diag(‖W‖); `strength` is where λ starts."""

    def __init__(
        self, base: nn.Module, rank: int = 8, strength: float = 15.0, dropout: float = 0.0, start: str = "random"
    ):
        super().__init__(base)
        if rank < 1 or strength <= 0:
            raise ValueError(f"rank must be at least 1 and strength above 0, not rank={rank} and strength={strength}")
        if start not in ("random", "zero"):
            raise ValueError(f"start must be 'random' (the paper) or 'zero' (Hugging Face peft), not {start!r}")
        d_out, d_in = weight_of(base).shape
        self.rank, self.start = rank, start
        self.A = new_uniform(base, rank, d_in)
        self.B = new_uniform(base, d_out, rank) if start == "random" else new_weight(base, d_out, rank)
        self.lam = nn.init.constant_(new_weight(base, 1), strength)
        self.register_buffer("norms", weight_of(base).detach().to(self.A.dtype).norm(dim=0))
        for name in ("A", "B", "lam"):
            own = getattr(self, name).detach().clone() if start == "random" else None
            self.register_buffer(f"{name}0", own)
        self.dropout = nn.Dropout(dropout) if dropout and not isinstance(base, nn.Embedding) else nn.Identity()

    def factors(self, A: Tensor, B: Tensor, lam: Tensor) -> tuple[Float[Tensor, "d_out r"], Float[Tensor, "r d_in"]]:
        """(λ/r) B Ξ and A diag(‖W‖): smaller to scale than the inputs are."""
        length = A.norm(dim=1).clamp(min=1e-4) * B.norm(dim=0).clamp(min=1e-4)
        return B * (lam / self.rank / length), A * self.norms

    def forward(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        y, x = self.base(x), self.dropout(x)
        left, right = self.factors(self.A, self.B, self.lam)
        change = up(self.base, down(self.base, x, right), left)
        if self.A0 is not None:
            left, right = self.factors(self.A0, self.B0, self.lam0)
            change = change - up(self.base, down(self.base, x, right), left)
        return y + change.to(y.dtype)

    def change(self) -> Float[Tensor, "d_out d_in"]:
        """What has been learned: (λ/r) B Ξ A diag(‖W‖), less where it started."""
        left, right = self.factors(self.A, self.B, self.lam)
        if self.A0 is None:
            return left @ right
        left0, right0 = self.factors(self.A0, self.B0, self.lam0)
        return left @ right - left0 @ right0

    def extra_repr(self) -> str:
        return f"rank={self.rank}" + ("" if self.start == "random" else f", start={self.start}")
