"""Where n columns are put before a text, and what the host must then be told: mask, positions, token types."""

import inspect
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn


def is_empty(cache: Any) -> bool:
    """Is this the first input of a text? ValueError for a cache of fixed size, which would be n columns too small."""
    if getattr(cache, "is_compileable", False):
        raise ValueError("a soft prompt needs a cache that grows: leave `cache_implementation` out")
    return cache is None or cache.get_seq_length() == 0


def widen(
    told: dict[str, Any], n: int, x: Shaped[Tensor, "rows length ..."], inserted: bool, base: nn.Module
) -> dict[str, Any]:
    """The host's arguments for the text x with n columns before it: in this input (`inserted`) or in the cache.

    The text keeps its own order of positions and begins at n. Where the left is padded the positions are counted from
    the mask, as `generate` does, or the padding would stand between the columns and the text (as it still does for a
    host whose attention sees only a window of the last columns).
    """
    _check_room(base, n, x, told.get("past_key_values"))
    told = dict(told)
    mask, positions, types = (told.get(k) for k in ("attention_mask", "position_ids", "token_type_ids"))
    if mask is not None:
        told["attention_mask"] = mask = _wide_mask(mask, n)
    if positions is not None:
        before = (torch.arange(n, device=positions.device) + _first_position(base)).expand(len(positions), n)
        told["position_ids"] = torch.cat([before, positions + n], 1) if inserted else positions + n
    elif mask is not None and _takes_positions(base) and not mask[:, n].all():
        length = x.shape[1] + (n if inserted else 0)
        told["position_ids"] = (mask.long().cumsum(1) - 1 + _first_position(base))[:, -length:]
    if types is not None and inserted:
        told["token_type_ids"] = torch.cat([types.new_zeros(len(types), n), types], 1)
    return told


def _wide_mask(mask: Any, n: int) -> Shaped[Tensor, "rows wide"]:
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise ValueError(
            "a soft prompt widens the mask itself: give attention_mask as (rows, length), 1 for real tokens"
        )
    return torch.cat([mask.new_ones(len(mask), n), mask], 1)


def _first_position(base: nn.Module) -> int:
    """0, but in RoBERTa and its kin, which count from after the padding token's id."""
    return getattr(getattr(base, "embeddings", None), "padding_idx", -1) + 1


def _check_room(base: nn.Module, n: int, x: Tensor, cache: Any) -> None:
    """ValueError where the host has a table of positions (BERT, GPT-2) that is too short."""
    limit = getattr(base.config, "max_position_embeddings", None)
    seen = 0 if cache is None else cache.get_seq_length()
    length = x.shape[1] + (seen or n) + _first_position(base)
    if limit is not None and length > limit and not hasattr(base.config, "rope_parameters"):
        raise ValueError(
            f"the text and {n} prompt tokens end at {length}, the model at position {limit}: shorten either"
        )


def _takes_positions(base: nn.Module) -> bool:
    return "position_ids" in inspect.signature(base.forward).parameters
