"""One view of a weight, whatever layer stores it: y = W x (+ b) with W of shape (d_out, d_in).

    Linear      stores W                      Embedding   stores Wᵀ: a look-up is W times a one-hot vector
    Conv1D      stores Wᵀ (GPT-2's Linear)    Conv2d      stores W as (d_out, channels, height, width)
    Linear4bit  stores W in 4 bits, and makes it again whenever it is asked for

A method written against these four functions works on all of them.
"""

import copy
import sys

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def is_conv1d(layer: nn.Module) -> bool:
    """GPT-2's `Conv1D`, told without importing transformers: if nobody has, there is none."""
    module = sys.modules.get("transformers.pytorch_utils")
    return module is not None and isinstance(layer, module.Conv1D)


def is_4bit(layer: nn.Module) -> bool:
    """This package's `Linear4bit`, told in the same way: quant/ is imported by those who quantise."""
    module = sys.modules.get(f"{__package__}.quant.linear")
    return module is not None and isinstance(layer, module.Linear4bit)


def refuse_4bit(layer: nn.Module, what: str) -> None:
    """ValueError where there are 4-bit layers: packed codes have no gradient, and would stay as they are in silence."""
    if any(is_4bit(module) for module in layer.modules()):
        raise ValueError(
            f"{what} needs the weight itself, and a 4-bit layer has only codes: load the model unquantised"
        )


def is_linear(layer: nn.Module) -> bool:
    """The layers that `all-linear` means."""
    return isinstance(layer, nn.Linear) or is_conv1d(layer) or is_4bit(layer)


def weight_of(layer: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The layer's matrix W. TypeError for a layer that has none."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    if isinstance(layer, nn.Embedding) or is_conv1d(layer):
        return layer.weight.T
    if isinstance(layer, nn.Conv2d):
        return layer.weight.flatten(1)
    if is_4bit(layer):
        return layer.dequantized()
    raise TypeError(
        f"{type(layer).__name__} has no single weight matrix: target a Linear, Conv1D, Embedding or Conv2d inside it"
    )


def with_weight(layer: nn.Module, W: Float[Tensor, "d_out d_in"]) -> nn.Module:
    """A new plain layer like `layer` with the matrix W, in the layer's own dtype; `layer` is left as it was."""
    if is_4bit(layer):  # not in 4 bits, which would round W: quant.merge_4bit does that, and says what it costs
        return layer.plain(W)
    stored = W.T if isinstance(layer, nn.Embedding) or is_conv1d(layer) else W.reshape(layer.weight.shape)
    new = copy.deepcopy(layer)
    new.weight = nn.Parameter(stored.detach().to(layer.weight.dtype).contiguous(), requires_grad=False)
    return new


def new_weight(layer: nn.Module, *shape: int) -> nn.Parameter:
    """Zeros to train beside `layer`: on its device, and in float32 where it is stored in half precision."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    return nn.Parameter(torch.zeros(shape, dtype=dtype, device=layer.weight.device))


def new_uniform(layer: nn.Module, *shape: int) -> nn.Parameter:
    """As `new_weight`, but U(±1/√n) with n columns, which is how PyTorch starts a Linear layer."""
    bound = shape[-1] ** -0.5
    return nn.init.uniform_(new_weight(layer, *shape), -bound, bound)


def new_kaiming(layer: nn.Module, *shape: int) -> nn.Parameter:
    """As `new_uniform`, but n is what one output reads: columns, times the size of a kernel."""
    return nn.init.kaiming_uniform_(new_weight(layer, *shape), a=5**0.5)


def down(layer: nn.Module, x: Shaped[Tensor, "..."], A: Float[Tensor, "rank d_in"]) -> Float[Tensor, "..."]:
    """A x: what `layer` does to x, with A in place of W and without the bias."""
    if isinstance(layer, nn.Embedding):  # called on the layer itself, so that a subclass that scales does so here
        return torch.func.functional_call(layer, {"weight": A.T}, (x,))
    x = x.to(A.dtype)
    if isinstance(layer, nn.Conv2d):  # in a grouped convolution every group sees the same A
        kernel = A.reshape(len(A), *layer.weight.shape[1:]).repeat(layer.groups, 1, 1, 1)
        return layer._conv_forward(x, kernel, None)
    return F.linear(x, A)


def up(layer: nn.Module, h: Float[Tensor, "..."], B: Float[Tensor, "d_out rank"]) -> Float[Tensor, "..."]:
    """B h, where h has its features where `layer` puts them (a convolution: in dimension 1)."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(h, B[:, :, None, None], groups=layer.groups)
    return F.linear(h, B)
