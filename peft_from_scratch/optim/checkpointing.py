"""Gradient checkpointing: keep each block's input, and compute the block again when its gradient is wanted.
Chen et al. 2016, arXiv:1604.06174, section 4.

    kept for the backward pass, L blocks of a bytes inside and x bytes of input:     L a   →   L x + a

Forward: run the block without a graph, keep x. Backward: run it again with a graph, from x, with the random numbers and
the autocast of the first time (or dropout would drop others), go back through it, forget it. In GPT's block a is 17 x
and the attention weights (Korthikanti et al. 2022, arXiv:2205.05198, section 4.1). The price is one more forward pass:
of three thirds of a full training step (forward, gradients of inputs, of weights) it makes four; where the base is
frozen and only adapters train, of two halves three.

A graph is made where an input of the function asks for a gradient. torch's re-entrant kind (use_reentrant=True) has
only x for input, the weights are hidden in the block: behind frozen embeddings x asks for none, the block's output
neither, and no adapter in it ever gets a gradient, without an error. Either x is made to ask
(`model.enable_input_require_grads()`), or, as here, the weights that train are inputs of the function as well. torch's
other kind (use_reentrant=False, to be preferred) hooks into what is saved instead.

    y = checkpoint(block, x)                                            # instead of block(x)
    checkpoint_blocks(model)                                            # every block of a transformers model
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class Recompute(torch.autograd.Function):
    """run(*inputs): `given` is the n inputs, tensors or not, and the weights inside `run` that train."""

    @staticmethod
    def forward(ctx: FunctionCtx, run: Callable, n: int, *given: Any) -> Any:
        ctx.run, ctx.n, ctx.again = run, n, conditions(given)
        ctx.others = [None if isinstance(a, Tensor) else a for a in given]
        ctx.save_for_backward(*(a if isinstance(a, Tensor) else None for a in given))
        return run(*given[:n])  # no graph: within a Function's forward there is none

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [other if t is None else t for t, other in zip(ctx.saved_tensors, ctx.others, strict=True)]
        inputs = [a.detach().requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a for a in given[: ctx.n]]
        with ctx.again(), torch.enable_grad():
            y = ctx.run(*(a.view_as(a) if isinstance(a, Tensor) else a for a in inputs))  # no leaves, as before
        outputs = [y] if isinstance(y, Tensor) else y
        back = [(o, s) for o, s in zip(outputs, slopes, strict=True) if isinstance(o, Tensor) and o.requires_grad]
        wanted = [a for a in (*inputs, *given[ctx.n :]) if isinstance(a, Tensor) and a.requires_grad]
        outputs, slopes = zip(*back, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, slopes, allow_unused=True))
        return None, None, *(next(found) if asked else None for asked in ctx.needs_input_grad[2:])


def checkpoint(block: Callable, *args: Any, **kwargs: Any) -> Any:
    """block(*args, **kwargs), of which only `args` are kept for the backward pass; the block must do the same twice.

    `block`: a module, or a `functools.partial` of its forward, as transformers passes. ValueError for anything else,
    and for a tensor that wants a gradient anywhere but among `args` themselves: it would not get one.
    """
    module = module_of(block)
    nested = [*kwargs.values(), *getattr(block, "keywords", {}).values(), *(a for a in args if not torch.is_tensor(a))]
    for value in nested:
        if any(torch.is_tensor(t) and t.requires_grad for t in (value if isinstance(value, tuple | list) else [value])):
            raise ValueError("a tensor that wants a gradient must be a positional argument of its own to be given one")
    weights = [p for p in module.parameters() if p.requires_grad]
    return Recompute.apply(partial(block, **kwargs), len(args), *args, *weights)


def checkpoint_blocks(model: nn.Module) -> nn.Module:
    """Let every block of a transformers model use `checkpoint` in train mode. ValueError where it has none that can."""
    blocks = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    if not blocks:
        raise ValueError(f"no module of {type(model).__name__} has gradient checkpointing: call checkpoint yourself")
    for block in blocks:
        block.gradient_checkpointing, block._gradient_checkpointing_func = True, checkpoint
    return model


def module_of(block: Callable) -> nn.Module:
    """The module whose weights a call trains."""
    function = getattr(block, "func", block)
    for found in (function, getattr(function, "__self__", None), *getattr(block, "args", ())):
        if isinstance(found, nn.Module):
            return found
    raise ValueError(f"checkpoint needs a module, to find the weights that train, and got {type(block).__name__}")


def conditions(given: tuple) -> Callable[[], ExitStack]:
    """A function that brings back, for the length of a `with`, the random state and the autocast of now."""
    devices = {t.device for t in given if isinstance(t, Tensor) and t.device.type == "cuda"}
    random = torch.get_rng_state(), {d: torch.cuda.get_rng_state(d) for d in devices}
    kinds = {"cpu", *(d.type for d in devices)}
    casts = [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in kinds]

    def again() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.random.fork_rng(devices))
        torch.set_rng_state(random[0])
        for device, state in random[1].items():
            torch.cuda.set_rng_state(state, device)
        for kind, dtype, enabled in casts:
            stack.enter_context(torch.autocast(kind, dtype, enabled))
        return stack

    return again
