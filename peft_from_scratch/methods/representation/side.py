"""Side-tuning: a second network beside the frozen one, and a mixture of both.
Zhang et al. 2019, arXiv:1912.13503, section 3.

    R(x) = α B(x) + (1 - α) S(x)        B frozen,  S trained,  α = sigmoid(a)

B is never changed, so nothing is forgotten, and S can be much smaller than B: no gradient passes through B. As α goes
from 1 to 0 this is the base, a residual, fine-tuning. Starts as the base if S starts as a copy of it, the paper's way;
any module with inputs and outputs like the base's will do.

Kind: additive: other. On: any module, a whole body too. Trains: everything + 1. Merges: no.
"""

import copy
import math
from typing import Any

import torch
from torch import nn

from ...adapter import Adapter
from ...layers import new_weight, refuse_4bit
from .hidden import hidden, like, with_hidden


class SideTuning(Adapter):
    """`base` and `side` (None: a copy of it) mixed; `alpha`: the base's share at the start."""

    def __init__(self, base: nn.Module, side: nn.Module | None = None, alpha: float = 0.5):
        super().__init__(base)
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is a share between 0 and 1, not {alpha}")
        if side is None:
            refuse_4bit(base, "Side-tuning with a copy")
        self.side = (copy.deepcopy(base) if side is None else side).requires_grad_(True)
        self.a = new_weight(like(base))
        with torch.no_grad():
            self.a += math.log(alpha / (1 - alpha))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():  # the side does not hang on the base: nothing of the base is kept for the backward pass
            output = self.base(*args, **kwargs)
        h, s = hidden(output), hidden(self.side(*args, **kwargs))
        if s.shape != h.shape:
            raise ValueError(f"the side returns {tuple(s.shape)}, the base {tuple(h.shape)}: they must be alike")
        return with_hidden(output, h + ((1 - self.a.sigmoid()) * (s - h)).to(h.dtype))  # exact where they are equal

    def merged(self) -> nn.Module:
        raise NotImplementedError("side-tuning runs two networks: it cannot be merged")
