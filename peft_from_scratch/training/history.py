"""What a training run remembers of itself."""

from dataclasses import dataclass, field


@dataclass
class History:
    """One entry a step: training loss, learning rate, gradient norm before clipping. And seconds, over all sittings."""

    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.loss)

    def add(self, loss: float, lr: float, grad_norm: float, seconds: float) -> None:
        self.loss.append(loss)
        self.lr.append(lr)
        self.grad_norm.append(grad_norm)
        self.seconds = seconds
