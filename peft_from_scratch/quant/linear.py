"""A linear layer that keeps its weight in 4 bits, and makes it again whenever it is needed.  arXiv:2305.14314, eq. 5.

    y = dequantise(W) x + b        in the dtype of x: what has 4 bits is the stored weight, not the computation

An ordinary product would save the dequantised W for the backward pass, and so keep those of all layers at once.
`Product` saves the bytes, which are there anyway, and dequantises again. The gradient of x is exact; W has none.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .blocks import byte_table
from .codes import code_of, dynamic8
from .stored import Stored, restore


class Product(torch.autograd.Function):
    """W x + b with W out of 4 bits, in the forward and again in the backward pass."""

    @staticmethod
    def forward(ctx, x, bias, shape, block, table, code8, *stored):
        ctx.save_for_backward(table, code8, *stored)
        ctx.shape, ctx.block = shape, block
        W = restore(Stored(*stored), table, code8, shape, block)
        return F.linear(x, W.to(x.dtype), bias)

    @staticmethod
    def backward(ctx, dy):
        table, code8, *stored = ctx.saved_tensors
        dx = db = None
        if ctx.needs_input_grad[0]:
            dx = dy @ restore(Stored(*stored), table, code8, ctx.shape, ctx.block).to(dy.dtype)
        if ctx.needs_input_grad[1]:
            db = dy.reshape(-1, dy.shape[-1]).sum(0)
        return dx, db, None, None, None, None, *[None] * len(stored)


class Linear4bit(nn.Module):
    """`W x + b` with W of shape (out_features, in_features) in 4 bits; `to_4bit` makes one from a plain layer.

    `weight` is an empty tensor of the dtype that merged weights get: hosts ask a layer's weight for it, and one that
    would multiply by the weight itself meets a shape error. Moving the module to another dtype leaves what is stored.
    """

    def __init__(
        self,
        stored: Stored,
        shape: tuple[int, int],
        bias: Tensor | None = None,
        code: str = "nf4",
        block: int = 64,
        dtype: torch.dtype = torch.float32,
        conv1d: bool = False,
    ):
        super().__init__()
        self.conv1d = conv1d  # does a Conv1D stand here in the plain model?
        self.out_features, self.in_features = shape
        self.code, self.block, self.double_quantized = code, block, stored.absmax2 is not None
        device = stored.packed.device
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_buffer("weight", torch.empty(0, dtype=dtype, device=device), persistent=False)
        for name, tensor in stored._asdict().items():
            self.register_buffer(name, tensor)
        self.register_buffer("table", byte_table(code_of(code)).to(device), persistent=False)
        self.register_buffer("code8", dynamic8().to(device) if self.double_quantized else None, persistent=False)

    def stored(self) -> Stored:
        return Stored(self.packed, self.absmax, self.absmax2, self.offset)

    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return Product.apply(x, self.bias, self.shape(), self.block, self.table, self.code8, *self.stored())

    def dequantized(self) -> Float[Tensor, "d_out d_in"]:
        """W in the layer's dtype: a new tensor of full size at every call."""
        return restore(self.stored(), self.table, self.code8, self.shape(), self.block).to(self.weight.dtype)

    def plain(self, W: Float[Tensor, "d_out d_in"]) -> nn.Module:
        """A frozen layer of the kind that was here, with the weight W and this one's bias."""
        if self.conv1d:
            from transformers.pytorch_utils import Conv1D  # stores Wᵀ, and saved files of the model rely on it

            new, W = Conv1D(0, 0), W.T
            new.nf, new.nx = self.shape()
        else:
            new = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        new.weight = nn.Parameter(W.detach().to(self.weight.dtype).contiguous(), requires_grad=False)
        if self.bias is not None:
            new.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return new.train(self.training)

    def bits(self) -> float:
        """Stored bits a weight, constants and all, by the bytes of the tensors."""
        return 8 * self.stored_bytes() / (self.out_features * self.in_features)

    def stored_bytes(self) -> int:
        """The bytes of the indices and of the constants; the code's tables (3 kB) are not counted."""
        return sum(t.nbytes for t in self.stored() if t is not None)

    def _apply(self, fn, recurse=True):
        """The constants stay in float32 where the module changes its dtype: they are a part of the format."""
        before = {name: t for name, t in self._buffers.items() if t is not None and name != "weight"}
        super()._apply(fn, recurse)
        for name, t in before.items():
            if self._buffers[name].dtype != t.dtype:
                self._buffers[name] = t.to(self._buffers[name].device)
        return self

    def extra_repr(self) -> str:
        settings = f"{self.code}, block={self.block}, double={self.double_quantized}, bias={self.bias is not None}"
        return f"in_features={self.in_features}, out_features={self.out_features}, {settings}"
