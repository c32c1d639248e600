"""Put a mutated page into the running program: the live function gets the code of its mutated twin, compiled under the
same shape checker. Nothing is imported again, so it costs milliseconds. What runs at import (decorators, tables, class
bodies) it cannot reach: that takes a process of its own, see fresh.py.
"""

import gc
import importlib.util
from pathlib import Path
from types import CodeType, FunctionType

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "peft_from_scratch"


def module_of(page: str) -> str:
    """ "methods/lowrank/lora.py" -> "peft_from_scratch.methods.lowrank.lora"."""
    return ".".join([PACKAGE, *Path(page).with_suffix("").parts])


def live_functions() -> dict[str, list[FunctionType]]:
    """Every function of the package that exists now, by its file."""
    found: dict[str, list[FunctionType]] = {}
    for f in gc.get_objects():
        if type(f) is FunctionType and PACKAGE in f.__code__.co_filename:
            found.setdefault(f.__code__.co_filename, []).append(f)
    return found


def compiled(page: str, text: str) -> dict[tuple[str, int], CodeType]:
    """The code of each function and method of the page, by its name and its turn among those of that name."""
    path = ROOT / PACKAGE / page
    loader = importlib.util.find_spec(module_of(page)).loader
    found: dict[tuple[str, int], CodeType] = {}

    def walk(code: CodeType) -> None:
        for inner in code.co_consts:
            if isinstance(inner, CodeType):
                turn = sum(name == inner.co_qualname for name, _ in found)
                found[inner.co_qualname, turn] = inner
                walk(inner)

    walk(loader.source_to_code(text.encode(), str(path)))
    return found


def in_place(page: str, function: str, text: str, live: dict[str, list[FunctionType]]) -> dict[FunctionType, CodeType]:
    """Swap the function's code, and give what was there. Nothing where that cannot be done, or not for all of it."""
    path = ROOT / PACKAGE / page
    old, new = compiled(page, path.read_text()), compiled(page, text)
    targets = {old[key]: new[key] for key in old if key[0] == function and key in new}
    functions = [f for f in live.get(str(path), ()) if f.__code__ in targets]
    inner = any(f.__code__.co_qualname.startswith(f"{function}.<locals>") for f in live.get(str(path), ()))
    if inner or len({f.__code__ for f in functions}) != len(targets) or not targets:
        return {}
    if any(len(f.__code__.co_freevars) != len(targets[f.__code__].co_freevars) for f in functions):
        return {}
    before = {f: f.__code__ for f in functions}
    for f in functions:
        f.__code__ = targets[f.__code__]
    return before
