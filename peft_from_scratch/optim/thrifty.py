"""What GaLore, APOLLO and AdaLomo share: the loop over weights, and float32 states beside half-precision weights."""

import torch
from torch import Tensor
from torch.optim import Optimizer


class Thrifty(Optimizer):
    """An optimiser that treats each weight on its own: a subclass says how, in `update`."""

    def update(self, p: Tensor, G: Tensor, state: dict, group: dict) -> None:
        """Change the weight `p`, in place, by its gradient `G`."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None) -> None:
        if closure is not None:
            raise ValueError(f"{type(self).__name__} takes no closure: call backward(), then step()")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)

    def load_state_dict(self, state_dict: dict) -> None:
        """As torch's, which would round float32 states to the dtype of half-precision weights: these stay as saved."""
        super().load_state_dict(state_dict)
        keys = [i for group in state_dict["param_groups"] for i in group["params"]]
        weights = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(keys, weights, strict=True):
            saved = state_dict["state"].get(key, {})
            self.state[p].update({k: t.to(p.device, copy=True) for k, t in saved.items() if isinstance(t, Tensor)})
