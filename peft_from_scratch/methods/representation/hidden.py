"""Hidden states where modules put them: a layer's tensor, a block's tuple, a transformers body's output object."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ...layers import weight_of


def hidden(output: Any) -> Float[Tensor, "..."]:
    """The hidden states in what a module returned: itself, or its first part."""
    return output if isinstance(output, Tensor) else output[0]


def with_hidden(output: Any, h: Float[Tensor, "..."], **more: Tensor) -> Any:
    """`output` with other hidden states; `more` replaces named parts of an output object."""
    if isinstance(output, Tensor):
        return h
    if isinstance(output, tuple):
        return (h, *output[1:])
    return type(output)(**{**output, next(iter(output)): h, **more})


def width_of(module: nn.Module, width: int | None) -> int:
    """How many numbers a hidden state has after `module`; ValueError where only the caller can know."""
    if width is not None:
        return width
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1]
    try:
        return weight_of(module).shape[0]
    except TypeError:
        raise ValueError(
            f"the width after a {type(module).__name__} is not plain: give width=, its hidden size"
        ) from None


def like(module: nn.Module) -> nn.Module:
    """A module in `module` with a `weight`, whose device and dtype new weights are to follow."""
    return next(m for m in module.modules() if isinstance(getattr(m, "weight", None), Tensor))


def without_words(kind: type[nn.Module], config: Any) -> nn.Module:
    """A new body that reads `inputs_embeds` alone: of its embeddings, which are never used, one frozen row is left."""
    config.vocab_size = (config.pad_token_id or 0) + 1  # RoBERTa counts its positions from the padding token's number
    body = kind(config)
    table = body.get_input_embeddings()
    table.weight = nn.Parameter(table.weight[:1].detach().clone(), requires_grad=False)
    return body
