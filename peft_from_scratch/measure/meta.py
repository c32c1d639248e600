"""A training step on the meta device: shapes, operations and graph of a real one, but no numbers and no memory.

Three things of a real device have to be put back. A model may ask its data something, and without numbers nothing
answers; the step measured is one of full length. And two operations are carried out differently on each device:

                           CPU                                 GPU                          meta, left alone
    dropout keeps          the noise, in x's dtype             a boolean mask               as on a CPU
    fused attention        where nothing is dropped            always                       never
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ASKED = torch.ops.aten._local_scalar_dense.default
FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
DEVICES = ("cpu", "cuda")


class AllYes(TorchDispatchMode):
    """Hosts ask "is the mask all ones?" and "is each text alone in its row?": yes, in a batch of full length."""

    def __torch_dispatch__(self, operation, types, args: tuple = (), kwargs: dict | None = None) -> Any:
        if operation is ASKED and args[0].is_meta:
            return True
        return operation(*args, **(kwargs or {}))


class AsOn(TorchFunctionMode):
    """Dropout and attention as `device` carries them out."""

    def __init__(self, device: str):
        super().__init__()
        self.gpu = device == "cuda"

    def __torch_function__(self, function, types, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.nn.functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if function is torch.nn.functional.dropout and self.gpu:
            return _gpu_dropout(*args, **kwargs)
        return function(*args, **kwargs)

    def _attention(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **more: Any):
        if not query.is_meta or (dropout_p and not self.gpu):
            plain = torch.nn.functional.scaled_dot_product_attention
            return plain(query, key, value, attn_mask, dropout_p, is_causal, **more)
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # as a CPU does; it is freed with the others
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
        return FUSED(query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=more.get("scale"))[0]


def _gpu_dropout(input, p=0.5, training=True, inplace=False):
    """The kernel that saves one byte a number, where it is used: in training, and not in place."""
    if not input.is_meta or not training or inplace or not 0 < p < 1:
        return torch.nn.functional.dropout(input, p, training, inplace)
    return torch.native_dropout(input, p, True)[0]


@contextmanager
def as_on(device: str) -> Iterator[None]:
    """Run meta tensors as `device` ("cpu" or "cuda") would run real ones."""
    if device not in DEVICES:
        raise ValueError(f"a step can be predicted for {' and '.join(DEVICES)}, not for {device!r}")
    with AllYes(), AsOn(device):
        yield
