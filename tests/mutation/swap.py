"""Put a mutated page into the running program.

Two ways. `in_place` gives the live function the code of its mutated twin, compiled under the same shape checker:
nothing is imported again, so it costs milliseconds. `reload` is for what runs at import (decorators, tables, class
bodies), and for a second look at survivors: it forgets the package and the tests, and they are imported again with the
mutated text.
"""

import gc
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
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


def in_place(page: str, function: str, text: str, live: dict[str, list[FunctionType]]) -> bool:
    """Swap the function's code. False where that cannot be done, or would not reach all of it."""
    path = ROOT / PACKAGE / page
    old, new = compiled(page, path.read_text()), compiled(page, text)
    targets = {old[key]: new[key] for key in old if key[0] == function and key in new}
    functions = [f for f in live.get(str(path), ()) if f.__code__ in targets]
    inner = any(f.__code__.co_qualname.startswith(f"{function}.<locals>") for f in live.get(str(path), ()))
    if inner or len({f.__code__ for f in functions}) != len(targets) or not targets:
        return False
    if any(len(f.__code__.co_freevars) != len(targets[f.__code__].co_freevars) for f in functions):
        return False
    for f in functions:
        f.__code__ = targets[f.__code__]
    return True


def reload(page: str, text: str) -> None:
    """From now on an import of the page finds the mutated text; everything that could know the old one is forgotten."""
    original, name, path = SourceFileLoader.get_code, module_of(page), str(ROOT / PACKAGE / page)

    def get_code(self, fullname):
        return self.source_to_code(text.encode(), path) if fullname == name else original(self, fullname)

    SourceFileLoader.get_code = get_code
    tests = str(ROOT / "tests")
    for key, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if key.split(".")[0] == PACKAGE or (
            file.startswith(tests) and key.split(".")[0] not in ("mutation", "__main__")
        ):
            del sys.modules[key]
