"""What one training step of a contestant costs, counted, not timed: the same on every machine."""

from torch import Tensor, nn

from ..measure import adapter_bytes, count, saved_bytes, static_bytes, step_flops
from ..training import optimizers
from ..training.running import Batch, model_loss
from .bench import Bench
from .contestants import Contestant


def exact_costs(contestant: Contestant, bench: Bench) -> dict[str, float]:
    """Numbers trained and in all, bytes (always there, and saved for backward), FLOPs of a step, bytes of the file."""
    model = bench.model(0, attn_implementation="eager")
    total, step = sum(p.numel() for p in model.parameters()), bench.full_step(model)
    examples = bench.order(0)(0)[:1] if contestant.examples else ()
    model = contestant.adapt(model, examples)
    numbers, file, static = count(model).trained, adapter_bytes(model), static_bytes(model)
    saved, flops = saved_bytes(model, step), step_flops(model, step)
    if factory := contestant.fit(model, 100).get("optimizer"):
        static = static._replace(optimizer=optimizer_bytes(model, factory, step))
    memory = {"static": static.total, "saved": saved, "memory": static.total + saved}
    return {"numbers": numbers, "total": total, "flops": flops, "file": file, **memory}


def optimizer_bytes(model: nn.Module, factory: optimizers.Factory, step: Batch) -> int:
    """What an optimiser of the method's own holds after a step; the model is not to be used afterwards."""
    optimizer = optimizers.make(factory, model, 1e-9, 1, False)
    model_loss(model, step).backward()
    optimizer.step()
    return sum(t.nbytes for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))
