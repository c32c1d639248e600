"""Floating-point operations of a training step, by torch's own counter: matrix products and convolutions only.

Element-wise work, the optimiser and memory traffic are outside, which is why seconds tell another story.
Full fine-tuning: 2 N a token forward, 4 N backward. A frozen weight saves the product for its own gradient, no
more, so a small change spread over the whole depth costs at least 2/3 of full fine-tuning.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..training.running import Batch, device_of, inputs, model_loss
from .step import traceless


def step_flops(model: nn.Module, batch: Batch, backward: bool = True) -> int:
    """FLOPs of one forward and (`backward`) one backward pass in train mode; a multiply-add counts as two."""
    with traceless(model), counting() as counter:
        loss = model_loss(model, inputs(batch, device_of(model)))
        if backward:
            loss.backward()
    return counter.get_total_flops()


def flop_ratio(model_a: nn.Module, model_b: nn.Module, batch: Batch) -> float:
    """FLOPs of a training step of `model_a` as a fraction of those of `model_b` (say, full fine-tuning)."""
    return step_flops(model_a, batch) / step_flops(model_b, batch)


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """torch's counter, and P-tuning's LSTM as single products: one kernel of oneDNN or cuDNN it takes for nothing."""
    libraries = torch.backends.mkldnn, torch.backends.cudnn
    before = [library.enabled for library in libraries]
    for library in libraries:
        library.enabled = False
    try:
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            yield counter
    finally:
        for library, was in zip(libraries, before, strict=True):
            library.enabled = was


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *args: object, **kwargs: object) -> int:
    """Q K^T and P V, for shapes (batch, heads, length, size)."""
    batch, heads, length, size = query
    return 2 * batch * heads * length * key[2] * (size + value[3])


def _attention_backward(
    grad: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *args: object, **kwargs: object
) -> int:
    """Q K^T once more, then the gradients of P, V, Q and K."""
    batch, heads, length, size = query
    return 2 * batch * heads * length * key[2] * (3 * size + 2 * value[3])


# torch 2.13's counter knows the fused attention kernels of GPUs, but counts this one, used on CPUs, as nothing.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
