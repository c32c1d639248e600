"""One small optimiser for each parameter, behind the face of a single one: what `InBackward` and `Paged` share."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import Optimizer


class OneEach(Optimizer):
    """`make([group])` for every parameter of `groups`: parameters, or parameter groups whose settings each one gets.

    Not for optimisers that look at several parameters at once (a norm over all gradients, say).
    """

    def __init__(self, groups: Iterable, make: Callable[[list[dict]], Optimizer]):
        groups = [g if isinstance(g, dict) else {"params": [g]} for g in groups]
        self.optimizers: dict[nn.Parameter, Optimizer] = {
            p: make([{**g, "params": [p]}]) for g in groups for p in g["params"]
        }
        if not self.optimizers:
            raise ValueError("there are no parameters to optimise: call full(model) or inject(...) first")

    @property
    def param_groups(self) -> list[dict]:
        """One group a parameter, to read or to set a learning rate."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    @property
    def state(self) -> dict[nn.Parameter, dict]:
        """Each parameter's state."""
        return {p: optimizer.state[p] for p, optimizer in self.optimizers.items() if p in optimizer.state}

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict:
        """As torch's, with the parameters numbered through."""
        made: dict = {"state": {}, "param_groups": []}
        for i, optimizer in enumerate(self.optimizers.values()):
            one = optimizer.state_dict()
            if 0 in one["state"]:
                made["state"][i] = one["state"][0]
            made["param_groups"].append(one["param_groups"][0] | {"params": [i]})
        return made

    def load_state_dict(self, state_dict: dict) -> None:
        """What `state_dict` gave. ValueError where the number of parameters is another."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.optimizers):
            raise ValueError(f"these are states of {len(groups)} parameters, and {len(self.optimizers)} train here")
        for i, p in enumerate(self.optimizers):
            state = {0: state_dict["state"][i]} if i in state_dict["state"] else {}
            self.load_one(p, {"state": state, "param_groups": [groups[i] | {"params": [0]}]})

    def load_one(self, p: nn.Parameter, state_dict: dict) -> None:
        """The state of one parameter."""
        self.optimizers[p].load_state_dict(state_dict)
