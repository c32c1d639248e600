"""What a verdict rests on: the names of torch, numpy, Python and this package, recorded before a learner's code runs.

`changes` says what is no longer as it was, `restore` puts it back. New names count where they would hide an old one.
"""

import builtins
import math
import operator
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy
import torch

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
_GONE, _is = object(), operator.is_
_MODULES = """
builtins os sys signal threading _thread dataclasses types re textwrap math operator random inspect time zlib linecache
warnings contextlib gc numpy numpy.linalg torch torch._C torch.autograd torch.linalg torch.nn torch.nn.functional
torch.nn.init torch.nn.utils torch.random torch.testing
""".split()
_PACKAGE = "peft_from_scratch"
_PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set, object, type, slice, range)
_FUNCTION = ("__code__", "__defaults__", "__kwdefaults__")


@dataclass(frozen=True)
class Guards:
    """Owners (modules and classes) with their names, and functions with their code."""

    owners: tuple[tuple[object, dict], ...]
    functions: tuple[tuple[types.FunctionType, tuple], ...]


def record(tests: list[types.FunctionType]) -> Guards:
    """Everything that is guarded, as it is now; `tests` are the properties' functions."""
    modules = [sys.modules[name] for name in _MODULES if name in sys.modules]
    own = [each for name, each in list(sys.modules.items()) if name.split(".")[0] == _PACKAGE]
    classes = {torch.Tensor, torch._C.TensorBase, torch.nn.Module, torch.Generator, numpy.ndarray, *_PLAIN}
    classes |= {each for module in (*own, torch.nn) for each in vars(module).values() if isinstance(each, type)}
    spaces = {id(test.__globals__): test.__globals__ for test in tests}
    owners = tuple((owner, dict(_names(owner))) for owner in (*modules, *own, *classes, *spaces.values()))
    return Guards(owners, tuple((each, _code(each)) for each in {*_functions(owners), *tests}))


def near(guards: Guards) -> Guards:
    """What a comparison itself uses: the checks, Python's and torch's own names. Small enough to be looked at often;
    the police sees to it that no function of ours gets another code meanwhile.
    """
    return Guards(tuple(each for each in guards.owners if _is_near(each[0])), ())


def _is_near(owner: object) -> bool:
    close = (builtins, math, operator, torch, torch.Tensor, torch._C.TensorBase)
    return isinstance(owner, dict) or owner in close or _called(owner).startswith(f"{_PACKAGE}.check")


def changes(guards: Guards) -> list[tuple[object, str, object]]:
    """(owner, name, what stood there or _GONE) for everything that is not as recorded."""
    found = []
    for owner, saved in guards.owners:
        now = _names(owner)
        if len(now) == len(saved) and all(map(_is, now, saved)) and all(map(_is, now.values(), saved.values())):
            continue  # nearly always, and often asked: in C alone
        found += [(owner, name, old) for name, old in saved.items()
                  if now.get(name, _GONE) is not old and _matters(owner, old, now.get(name, _GONE))]  # fmt: skip
        found += [(owner, name, _GONE) for name in now if name not in saved and _hides(owner, name)]
    for function, code in guards.functions:
        if any(a is not b for a, b in zip(_code(function), code, strict=True)):
            found.append((function, "its code", code))
    return found


def restore(found: list[tuple[object, str, object]]) -> list[str]:
    """Put back what `changes` found, where that is possible; the names of what was changed."""
    for owner, name, old in found:
        with suppress(AttributeError, TypeError):
            if isinstance(owner, types.FunctionType):
                for part, value in zip(_FUNCTION, old, strict=True):
                    setattr(owner, part, value)
            elif isinstance(owner, dict):
                owner.update({name: old}) if old is not _GONE else owner.pop(name)
            elif old is _GONE:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
    return sorted({_called(owner) if isinstance(owner, types.FunctionType) else f"{_called(owner)}.{name}"
                   for owner, name, _ in found})  # fmt: skip


def _names(owner: object) -> Mapping:
    """A module's or a class's names; a name space is its own."""
    return owner if isinstance(owner, dict) else vars(owner)


def _matters(owner: object, old: object, new: object) -> bool:
    """Libraries count and cache in their own names; only what is called, or belongs to the package, matters."""
    return callable(old) or callable(new) or _is_ours(owner)


def _hides(owner: object, name: str) -> bool:
    if isinstance(owner, type):
        return any(name in vars(base) for base in owner.__mro__[1:])
    return hasattr(builtins, name) and owner is not builtins and not name.startswith("__")


def _is_ours(owner: object) -> bool:
    return isinstance(owner, dict) or _called(owner).startswith(_PACKAGE)


def _functions(owners: tuple) -> list[types.FunctionType]:
    found = {}
    for owner, names in owners:
        if _is_ours(owner):
            for each in names.values():
                each = getattr(each, "__func__", getattr(each, "fget", each))
                if isinstance(each, types.FunctionType):
                    found[id(each)] = each
    return list(found.values())


def _code(function: types.FunctionType) -> tuple:
    return tuple(getattr(function, part) for part in _FUNCTION)


def _called(owner: object) -> str:
    if isinstance(owner, types.ModuleType):
        return owner.__name__
    if isinstance(owner, dict):
        return str(owner.get("__name__"))
    return f"{owner.__module__}.{getattr(owner, '__qualname__', '?')}"
