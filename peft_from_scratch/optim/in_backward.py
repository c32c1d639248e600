"""Update each weight inside the backward pass, as soon as its gradient is there, and free the gradient.

Lv et al. 2023, arXiv:2306.09782, section 3.1 (LOMO); "per-layer update" in GaLore's section 4. Gradients of all weights
never exist at the same time: at most a few do. The price: no accumulation over batches, and the norm of the whole
gradient costs a second backward pass, since no gradient is left when it is known.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class InBackward:
    """One small optimiser a parameter, made by `make(param_groups)`, stepped by a hook; `remove()` ends it.

    `groups`: parameters, or parameter groups whose settings each of their parameters gets. `loss.backward()` is a whole
    training step then; `step(loss, clip)` is one with the gradient norm clipped.
    """

    def __init__(self, groups: Iterable, make: Callable[[list[dict]], Optimizer]):
        groups = [g if isinstance(g, dict) else {"params": [g]} for g in groups]
        self.optimizers = {p: make([{**g, "params": [p]}]) for g in groups for p in g["params"]}
        if not self.optimizers:
            raise ValueError("there is no parameter to update: call full(model) or inject(...) first")
        self.hooks = [p.register_post_accumulate_grad_hook(self._update) for p in self.optimizers]
        self.squares: list[Tensor] | None = None  # filled while a norm is measured
        self.factor: Tensor | None = None

    def _update(self, p: nn.Parameter) -> None:
        if self.squares is not None:
            self.squares.append(p.grad.detach().float().square().sum())
        else:
            if self.factor is not None:
                p.grad.mul_(self.factor.to(p.grad))
            self.optimizers[p].step()
        p.grad = None

    def step(self, loss: Tensor, clip: float | None = None) -> Tensor | None:
        """Backward and update; with `clip` twice backward, and the gradient norm is returned."""
        norm = self._norm(loss) if clip is not None else None
        self.factor = None if norm is None else (clip / (norm + 1e-6)).clamp(max=1)
        try:
            loss.backward()
        finally:
            self.factor = None
        return norm

    def _norm(self, loss: Tensor) -> Tensor:
        self.squares = []
        try:
            loss.backward(retain_graph=True)
            return torch.stack(self.squares).sum().sqrt()
        finally:
            self.squares = None

    def set_lr(self, lr: float) -> None:
        """One learning rate for all, for a schedule."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def remove(self) -> None:
        """Take the hooks off: backward only computes gradients again."""
        for hook in self.hooks:
            hook.remove()
