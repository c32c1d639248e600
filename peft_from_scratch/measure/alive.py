"""Bytes alive at each moment: every new tensor's memory is counted when it is made and when it is freed."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Inside `with Alive() as alive`, `alive.now` bytes are held by tensors made since, at most `alive.peak`.

    It sees what an operation returns, on any device, "meta" too, where a tensor has a size and no memory. Unseen: what
    a kernel takes and gives back inside itself.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, operation, types, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        for storage in _storages(tree_leaves((args, kwargs))):
            self._meet(storage, 0)  # if it is not known by now, it was there before
        result = operation(*args, **kwargs)
        for storage in _storages(tree_leaves(result)):
            self._meet(storage, storage.nbytes())
        return result

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata).atexit = False

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _storages(leaves: Iterable[Any]) -> Iterable[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in leaves if isinstance(leaf, Tensor))
