"""Which task each row of a batch belongs to: a layer cannot see it, so the adapters are told for the length of a block.

    with task_ids(model, batch.pop("task_ids")):
        loss = model(**batch).loss

An int serves a whole batch: `with task_ids(model, 2): evaluate(model, batches)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from ...adapt import adapters
from ...adapter import Adapter
from ...layers import weight_of


class PerTask(Adapter):
    """An adapter whose weights depend on the task of a row. `ids` is set by `task_ids`."""

    ids: Tensor | None = None

    def __init__(self, base: nn.Module, n_tasks: int):
        super().__init__(base)
        weight_of(base)  # a layer without a matrix is refused here
        if isinstance(base, nn.Conv2d):
            raise TypeError("rows with weights of their own would need a convolution each: target linear layers")
        if n_tasks < 1:
            raise ValueError(f"n_tasks must be at least 1, not {n_tasks}")
        self.n_tasks = n_tasks

    def ids_of(self, x: Shaped[Tensor, "rows ..."]) -> Int[Tensor, " rows"]:
        """The task of each row of x. Generation repeats rows (beams), so that each id then stands for several."""
        if self.ids is None:
            raise ValueError(
                f"{type(self).__name__} needs the task of each row: run the model inside `with task_ids(model, ids):`"
            )
        if len(x) % len(self.ids):
            raise ValueError(f"{len(self.ids)} task ids do not fit a batch of {len(x)} rows: give one id a row")
        return self.ids.to(x.device).repeat_interleave(len(x) // len(self.ids))

    def only_id(self) -> Int[Tensor, " 1"]:
        """The one task that `ids` names. NotImplementedError for several: each would need a weight of its own."""
        one = None if self.ids is None else self.ids.unique()
        if one is None or len(one) != 1:
            raise NotImplementedError(
                f"{type(self).__name__} has a weight for each task: it cannot be merged but for one, "
                "inside `with task_ids(model, 0):`"
            )
        return one


@contextmanager
def task_ids(model: nn.Module, ids: int | Shaped[Tensor, " rows"]) -> Iterator[nn.Module]:
    """Inside the block row i of a batch belongs to task ids[i]; an int: every row to that task.

    With gradient checkpointing `backward` belongs inside the block as well: it runs the layers again.
    ValueError for ids that are no whole numbers from 0 to n_tasks - 1, and for a model that has no use for them.
    """
    users = [a for _, a in adapters(model) if isinstance(a, PerTask)]
    if not users:
        raise ValueError("no adapter of this model depends on a task: leave task_ids out")
    ids = torch.as_tensor(ids).reshape(-1)
    n_tasks = min(a.n_tasks for a in users)
    if not len(ids) or ids.is_floating_point() or ids.min() < 0 or ids.max() >= n_tasks:
        raise ValueError(f"task ids must be whole numbers from 0 to {n_tasks - 1}, not {ids.tolist()}")
    ids = ids.to(users[0].base.weight.device)  # once a block, not once a layer
    before = [a.ids for a in users]
    try:
        for a in users:
            a.ids = ids
        yield model
    finally:
        for a, old in zip(users, before, strict=True):
            a.ids = old
