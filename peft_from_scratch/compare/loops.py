"""What some contestants tell `train.fit` beside the rate: a penalty, a schedule of their own, another optimiser."""

from typing import Any

from torch import Tensor, nn

from ..methods.lowrank.adalora import RankAllocator, penalty
from ..optim.adam import groups
from ..optim.galore import GaLore
from ..training.running import Batch, model_loss


def adalora_loop(model: nn.Module, steps: int) -> dict[str, Any]:
    """From 12 to 8 ranks a layer between a tenth and seven tenths of the steps, with peft's penalty."""
    allocator = RankAllocator(model, 8, steps, warmup=steps // 10, final=max(1, 3 * steps // 10))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model_loss(model, batch) + 0.5 * penalty(model, released=True)

    return {"loss_fn": loss, "on_step": lambda step, loss: allocator.step()}


def galore_loop(model: nn.Module, steps: int) -> dict[str, Any]:
    """Every weight trains; Adam's moments of the linear layers live in 64 dimensions (fewer in a smaller layer)."""

    def make(model: nn.Module, lr: float) -> GaLore:
        smallest = min(min(p.shape) for p in groups(model)[0]["params"])
        return GaLore(groups(model, rank=min(64, smallest)), lr, every=50)

    return {"optimizer": make}
