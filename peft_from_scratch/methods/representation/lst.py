"""Ladder side tuning: a small network beside the frozen one, fed by rungs from its layers.
Sung et al. 2022, arXiv:2206.06522, section 3.

    g_0 = D_0 h_0        g_l = block_l(μ_l D_l h_l + (1 - μ_l) g_{l-1})        μ_l = sigmoid(a_l)        y = h_L + U g_L

h_l: (width), the base's hidden states; g_l: (width / k); D_l, U linear; block_l: the base's own kind of block, k times
narrower, heads of the same size. No gradient passes through the base, so of its activations only the h_l stay for the
backward pass: LoRA, with as few parameters, keeps them all. U = 0 and h_L in the output: starts as the base.
Trains the side network. Does not merge: it changes outputs. Text models whose body takes `inputs_embeds`. A decoder
that reads an encoder is refused: its narrow blocks would have to read a narrow one. T5's encoder alone works, and then
the frozen decoder behind it keeps its activations.

    model = inject(model, {model.base_model_prefix: lambda body: LST(body, reduction=4)})

Kind: additive: other. On: the body of a transformer. Trains: side. Merges: no.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...adapter import Adapter
from ...layers import new_weight
from .hidden import hidden, like, with_hidden, without_words

WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "n_inner")
REFUSED = ("past_key_values", "inputs_embeds", "input_ids", "token_type_ids", "use_cache", "output_hidden_states")


class Rung(nn.Module):
    """D_l, its gate and block_l. `h` is set by the ladder for the length of a forward pass."""

    h: Tensor | None = None

    def __init__(self, block: nn.Module, layer: nn.Module, width: int, narrow: int):
        super().__init__()
        self.block, self.D, self.a = block, drawn(layer, narrow, width), new_weight(layer)
        self.attention_type = getattr(block, "attention_type", None)  # Llama's body asks its blocks for it

    def forward(self, g: Float[Tensor, "batch length narrow"], *args: Any, **kwargs: Any) -> Any:
        mu = self.a.sigmoid()
        return self.block(mu * nn.functional.linear(self.h.to(g.dtype), self.D) + (1 - mu) * g, *args, **kwargs)


class LST(Adapter):
    """The body of a transformers model and its ladder, `reduction` times narrower."""

    def __init__(self, base: nn.Module, reduction: int = 4):
        super().__init__(base)
        width = base.config.hidden_size
        self.side, narrow = narrow_body(base, reduction)
        blocks, layer = blocks_of(self.side), like(base)
        for i, block in enumerate(blocks):
            blocks[i] = Rung(block, layer, width, narrow)
        self.D, self.U, self.reduction = drawn(layer, narrow, width), new_weight(layer, width, narrow), reduction

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> Any:
        if kwargs.get("past_key_values") is not None:
            raise ValueError("the ladder reads the whole text again at each step: use generate(use_cache=False)")
        if kwargs.get("encoder_hidden_states") is not None:
            raise ValueError(
                "this body reads an encoder's output, and the ladder's narrow blocks would need a narrow encoder's: "
                "put the ladder beside the encoder alone, or use another method here"
            )
        given = {k: v for k, v in kwargs.items() if k not in ("use_cache", "output_hidden_states", "return_dict")}
        with torch.no_grad():
            output = self.base(input_ids=input_ids, **given, use_cache=False, output_hidden_states=True)
        y = hidden(output) + (self.climb(output.hidden_states, given) @ self.U.T).to(hidden(output).dtype)
        pooler = getattr(self.base, "pooler", None)
        return with_hidden(output, y, **({} if pooler is None else {"pooler_output": pooler(y)}))

    def climb(self, taps: tuple[Tensor, ...], given: dict[str, Any]) -> Float[Tensor, "batch length narrow"]:
        """g_L, from the base's hidden states."""
        rungs = blocks_of(self.side)
        try:
            for rung, h in zip(rungs, taps[1:], strict=True):
                rung.h = h
            g = taps[0].to(self.D.dtype) @ self.D.T
            kept = {k: v for k, v in given.items() if k not in REFUSED}
            return hidden(self.side(inputs_embeds=g, **kept, use_cache=False))
        finally:
            for rung in rungs:
                rung.h = None

    def get_input_embeddings(self) -> nn.Module:
        """The body's: hosts ask it for them."""
        return self.base.get_input_embeddings()

    def merged(self) -> nn.Module:
        raise NotImplementedError("ladder side tuning runs a second network: it cannot be merged")

    def extra_repr(self) -> str:
        return f"reduction={self.reduction}"


def narrow_body(base: nn.Module, reduction: int) -> tuple[nn.Module, int]:
    """A new body of the base's kind with `reduction` times fewer heads, and its width; ValueError for an odd number."""
    config = copy.deepcopy(base.config)
    heads, width = config.num_attention_heads, config.hidden_size
    if reduction < 1 or heads % reduction or width % heads:
        raise ValueError(f"reduction must divide the {heads} attention heads, and {reduction} does not")
    for key in WIDTHS:
        if getattr(config, key, None):
            setattr(config, key, max(1, getattr(config, key) // reduction))
    side = without_words(type(base), config).to(new_weight(like(base)))
    if getattr(side, "pooler", None) is not None:  # the base's is used, on the ladder's output
        side.pooler = None
    return side, config.hidden_size


def blocks_of(body: nn.Module) -> nn.ModuleList:
    """The list of a body's blocks."""
    lists = [m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == body.config.num_hidden_layers]
    if not lists:
        raise ValueError(f"found no list of {body.config.num_hidden_layers} blocks in {type(body).__name__}")
    return lists[0]


def drawn(layer: nn.Module, d_out: int, d_in: int) -> nn.Parameter:
    """A linear layer's default start."""
    return nn.init.uniform_(new_weight(layer, d_out, d_in), -(d_in**-0.5), d_in**-0.5)
