"""Update each weight inside the backward pass, as soon as its gradient is there, and free the gradient.

Lv et al. 2023, arXiv:2306.09782, section 3.1 (LOMO); "per-layer update" in GaLore's section 4. Gradients of all weights
never exist at the same time: at most a few do. The price: no accumulation over batches, no scaler for fp16 (it must see
all gradients before a step), and clipping costs a second backward pass, since no gradient is left when the norm of all
is known.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .one_each import OneEach


class InBackward(OneEach):
    """One small optimiser a parameter, made by `make(param_groups)`, stepped by a hook; `finish()` ends it.

    `loss.backward()` is a whole training step then; `step(loss, clip)` is one with the gradient norm clipped.
    """

    def __init__(self, groups: Iterable, make: Callable[[list[dict]], Optimizer]):
        super().__init__(groups, make)
        self.hooks = [p.register_post_accumulate_grad_hook(self._update) for p in self.optimizers]
        self.squares: dict[nn.Parameter, Tensor] = {}  # of each gradient of the last backward pass, its squared norm
        self.factor: Tensor | None = None
        self.measuring = False

    def _update(self, p: nn.Parameter) -> None:
        self.squares[p] = p.grad.detach().float().square().sum()
        if not self.measuring:
            if self.factor is not None:
                p.grad.mul_(self.factor.to(p.grad))
            self.optimizers[p].step()
        p.grad = None

    def step(self, loss: Tensor | None = None, clip: float | None = None) -> Tensor:
        """Backward and update; returns the gradient norm before clipping. With `clip` twice backward.

        Where that norm is not finite, nothing is updated with `clip`; without it, the weights are spoilt.
        """
        if not isinstance(loss, Tensor):
            raise ValueError("the update happens in the backward pass: call step(loss), or loss.backward() alone")
        if clip is None:
            return self._backward(loss)
        self.measuring = True
        try:
            norm = self._backward(loss, retain_graph=True)
        finally:
            self.measuring = False
        if norm.isfinite():
            self.factor = (clip / (norm + 1e-6)).clamp(max=1)
            try:
                self._backward(loss)
            finally:
                self.factor = None
        return norm

    def _backward(self, loss: Tensor, retain_graph: bool = False) -> Tensor:
        self.squares = {}
        loss.backward(retain_graph=retain_graph)
        return sum(self.squares.values(), torch.zeros((), device=loss.device)).sqrt()

    def finish(self) -> None:
        """Take the hooks off: backward only computes gradients again."""
        for hook in self.hooks:
            hook.remove()
