r"""Shadow: a small network runs along the frozen one, corrects the input of each block, and learns from its output.
ShadowPEFT, as in Hugging Face peft 0.21.2, which names no paper.

    s_0 = body'(x)                 body': the base's kind of body with few blocks, on the base's embeddings
    h ← h + α U D (h - s)          before each block        D: (r, width),  U: (width, r),  h, s: (width)
    s ← (1 - g) s + g T(h)         after it, g = sigmoid(G(h));  T, G: Linear, GELU, Linear, through u numbers

The shadow states s come to what the frozen states h should be, and a low-rank share of the difference goes in. U = 0:
starts as the base. `penalty` asks that s_0 alone also answers. Trains 2 r d + 2 (2 d u + u + d) numbers a block (d: the
width) and body'. The last block's T and G have no effect, and so no gradient. For decoders, without a cache; body' is
as wide as the base.

    model = inject(model, shadow(model, r"model\.layers\.\d+"))

Paper: ShadowPEFT, Hugging Face peft 0.21.2. Kind: additive: other. On: the body of a decoder and its blocks. Trains: 2
* rank * width + 2 * (2 * width * u + u + width). Merges: no. peft: SHADOW.
"""

import copy
import re
from typing import Any

from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import new_weight
from ...targets import Targets
from .hidden import hidden, like, without_words


class State:
    """The shadow states on their way through the blocks, and where they began. A copy of a model starts without."""

    s: Tensor | None = None
    s0: Tensor | None = None

    def __deepcopy__(self, memo: dict) -> "State":
        return State()


def shadow(model: nn.Module, blocks: str, layers: int = 1, **settings) -> Targets:
    """What `inject(model, ...)` needs; `blocks`: their pattern, `layers`: how many the shadow body has."""
    state, width = State(), model.config.hidden_size
    return {
        re.escape(model.base_model_prefix): lambda base: ShadowBody(base, state, layers),
        blocks: lambda base: ShadowBlock(base, state, width, **settings),
    }


class ShadowBody(Adapter):
    """The frozen body and the small one that makes s_0."""

    def __init__(self, base: nn.Module, state: State, layers: int = 1):
        super().__init__(base)
        if layers < 1:
            raise ValueError(f"the shadow body needs at least one block, not {layers}")
        config = copy.deepcopy(base.config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        self.side, self.state = without_words(type(base), config).to(new_weight(like(base))), state

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> Any:
        if kwargs.get("past_key_values") is not None:
            raise ValueError("the shadow reads the whole text again at each step: use generate(use_cache=False)")
        x = kwargs["inputs_embeds"] if input_ids is None else self.get_input_embeddings()(input_ids)
        kwargs |= {"inputs_embeds": x, "use_cache": False}
        given = {k: kwargs[k] for k in ("attention_mask", "position_ids") if k in kwargs}
        side_x = x.to(next(self.side.parameters()).dtype)
        self.state.s = self.state.s0 = hidden(self.side(inputs_embeds=side_x, **given, use_cache=False))
        try:
            return self.base(**kwargs)
        finally:
            self.state.s = None

    def get_input_embeddings(self) -> nn.Module:
        """The body's: hosts ask it for them."""
        return self.base.get_input_embeddings()


class ShadowBlock(Adapter):
    """A frozen block with the shadow's correction before it and the shadow's step after it."""

    def __init__(
        self, base: nn.Module, state: State, width: int, rank: int = 8, alpha: float = 0.1, dropout: float = 0.2,
        u: int | None = None,
    ):  # fmt: skip
        super().__init__(base)
        if rank < 1 or (u is not None and u < 1):
            raise ValueError(f"rank and u must be at least 1, not {rank} and {u}")
        layer, u = new_weight(like(base)), u or rank
        self.state, self.alpha, self.dropout = state, alpha, nn.Dropout(dropout)
        self.D = nn.Linear(width, rank, bias=False).to(layer)
        self.U = new_weight(like(base), width, rank)
        self.T, self.G = (nn.Sequential(nn.Linear(width, u), nn.GELU(), nn.Linear(u, width)).to(layer) for _ in "TG")

    def forward(self, h: Tensor, *args: Any, **kwargs: Any) -> Any:
        s = self.state.s
        change = self.alpha * nn.functional.linear(self.D(self.dropout(h.to(s.dtype) - s)), self.U)
        output = self.base(h + change.to(h.dtype), *args, **kwargs)
        new = hidden(output).to(s.dtype)
        g = self.G(new).sigmoid()
        self.state.s = (1 - g) * s + g * self.T(new)
        return output

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


def penalty(model: nn.Module, labels: Tensor) -> Tensor:
    """The log-loss of s_0, of the last forward pass, under the frozen head: add 0.05 times it (peft's weight)."""
    state = next((a.state for _, a in adapters(model) if isinstance(a, ShadowBody)), None)
    if state is None or state.s0 is None:
        raise ValueError("no shadow has run: inject one, and call the model before its penalty")
    logits = model.get_output_embeddings()(state.s0.to(model.get_output_embeddings().weight.dtype))
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
