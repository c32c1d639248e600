"""How much each weight matters, smoothed over steps: by it AdaLoRA and AdaMSS share out their budgets.

    I = |w ∂L/∂w|,   Ī ← β₁ Ī + (1 - β₁) I,   Ū ← β₂ Ū + (1 - β₂) |I - Ī|,   s(w) = Ī Ū

AdaLoRA's equations 9 to 11 (arXiv:2303.10512): large, and not sure to be so, counts most.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

State = dict[str, Tensor]
KEYS = ("mean", "change")


class Importance:
    """s of each of the `named` parameters. `late`: Ū from the Ī of the step before, as AdaMSS has it."""

    def __init__(self, named: dict[str, nn.Parameter], betas: tuple[float, float], late: bool = False):
        self.named, self.betas, self.late = named, betas, late
        self.smooth: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}  # Ī and Ū

    @torch.no_grad()
    def measure(self) -> None:
        """Take in the gradients of this step. ValueError where there are none at all."""
        live = [p for p in self.named.values() if p.grad is not None]
        if not live:
            raise ValueError("the allocator finds no gradients: call its step() after backward, before zero_grad()")
        for p in live:
            I, zero = (p * p.grad).abs(), torch.zeros_like(p)  # noqa: E741
            old, change = self.smooth.get(p, (zero, zero))
            mean = old.lerp(I, 1 - self.betas[0])
            self.smooth[p] = mean, change.lerp((I - (old if self.late else mean)).abs(), 1 - self.betas[1])

    def of(self, p: nn.Parameter) -> Float[Tensor, "..."]:
        mean, change = self.smooth[p]
        return mean * change

    def state_dict(self) -> State:
        """Copies, in a flat dictionary that safetensors can hold."""
        pairs = {name: self.smooth[p] for name, p in self.named.items() if p in self.smooth}
        return {f"{name}.{k}": t.clone() for name, pair in pairs.items() for k, t in zip(KEYS, pair, strict=True)}

    def load_state_dict(self, state: State) -> None:
        found = {p: [state.get(f"{name}.{k}") for k in KEYS] for name, p in self.named.items()}
        self.smooth.clear()
        self.smooth |= {p: tuple(t.to(p, copy=True) for t in pair) for p, pair in found.items() if None not in pair}


class Allocator:
    """What allocators of a budget have in common: the importance, the step t, and a state as an optimiser has it."""

    importance: Importance
    t = 0

    def own(self) -> State:
        """What else it remembers, by name."""
        raise NotImplementedError

    def put(self, state: State) -> None:
        """Take back what `own` gave."""
        raise NotImplementedError

    def state_dict(self) -> State:
        """Copies, in a flat dictionary that safetensors can hold."""
        mine = {"t": torch.tensor(self.t)} | self.own()
        return self.importance.state_dict() | {k: t.clone() for k, t in mine.items()}

    def load_state_dict(self, state: State) -> None:
        """Go on where `state` was taken: exactly, where model and optimiser do so too. ValueError, before anything
        changes, for a state of other adapters."""
        needed = {"t": torch.tensor(0)} | self.own()
        may = needed | {f"{name}.{k}": p for name, p in self.importance.named.items() for k in KEYS}
        wrong = [k for k in state if k not in may or state[k].shape != may[k].shape]
        if wrong := [k for k in needed if k not in state] + wrong:
            raise ValueError(
                f"this state is of other adapters ({wrong[0]!r} does not fit, and {len(wrong) - 1} more): "
                "inject the same ones as before, and give what this kind of allocator has saved"
            )
        self.importance.load_state_dict(state)
        self.t = int(state["t"])
        self.put(state)
