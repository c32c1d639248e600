"""Values that could lie about what they are: only types that a library defines are compared."""

import builtins
import sys

import torch

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
_WATCHED = (torch.Tensor, int, float, complex, str, list, tuple, dict, set)


def classes() -> set[type]:
    """All classes there are now that pass for a tensor, a number, a text or a container."""
    found: set[type] = set()
    todo = [each for base in _WATCHED for each in type.__subclasses__(base)]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += type.__subclasses__(one)
    return found


def new_liars(before: set[type]) -> list[str]:
    """Names of classes made since by no library; a named tuple that compares as tuples do is none."""
    made = [one for one in classes() - before if not _of_a_library(one)]
    return sorted(one.__name__ for one in made if not issubclass(one, tuple) or "__eq__" in vars(one))


def is_plain(value: object, depth: int = 4) -> bool:
    """Whether a value consists of types that a library defines, so that == means what it says."""
    if not _of_a_library(type(value)):
        return False
    if not depth or type(value) not in (list, tuple, set, frozenset, dict):
        return True
    inside = [each for pair in value.items() for each in pair] if type(value) is dict else value
    return all(is_plain(each, depth - 1) for each in inside)


def _of_a_library(one: type) -> bool:
    found = sys.modules.get(one.__module__)
    for part in one.__qualname__.split("."):
        found = getattr(found, part, None)
    return one.__module__ != "__main__" and (found is one or one.__module__ == "builtins" and one in _UNNAMED)


_UNNAMED = {type(None), type(...), type(lambda: 0), type(len), type({}.keys()), type({}.values()), type({}.items())}
