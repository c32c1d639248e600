"""Tell an exercise nobody has started from a wrong one, by what its compiled code does."""

import dis
import inspect

_EMPTY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
_RAISE = _EMPTY | {"LOAD_GLOBAL", "PUSH_NULL", "PRECALL", "CALL", "RAISE_VARARGS"}
_USES = ("STORE_FAST", "STORE_DEREF", "RETURN_VALUE", "BINARY_OP", "PRECALL", "CALL", "KW_NAMES")
_LOADS = ("LOAD_FAST", "LOAD_ATTR", "LOAD_DEREF")


def has_gap(answer: object) -> bool:
    """True where a `...` is left to fill in: the value itself, all values of a container, or in the code."""
    if answer is Ellipsis:
        return True
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple)):
        return len(answer) > 0 and all(each is Ellipsis for each in answer)
    return any(_leaves_ellipsis(code) for code in _codes(answer))


def has_empty_body(answer: object) -> bool:
    """True where a function, or a method of a class, only holds `...`, `pass` or raise NotImplementedError."""
    return any(_is_empty(code) for code in _codes(answer))


def _codes(answer: object) -> list:
    """The code objects of a function, or of the methods which a class itself defines."""
    if inspect.isclass(answer):
        members = [getattr(each, "__func__", each) for each in vars(answer).values()]
        members = [each.fget if isinstance(each, property) else each for each in members]
    else:
        members = [answer]
    return [inspect.unwrap(each).__code__ for each in members if inspect.isfunction(each)]


def _leaves_ellipsis(code) -> bool:
    # `y = ...`, `self.A = ...`, `return ...`, `x @ ...`, `Parameter(...)`, but not the indexing x[..., 0]
    steps = list(dis.get_instructions(code))
    for number, step in enumerate(steps):
        if step.argval is Ellipsis and step.opname in ("LOAD_CONST", "RETURN_CONST"):
            following = [each.opname for each in steps[number + 1 :]]
            target = next((each for each in following if not each.startswith(_LOADS)), "")
            if step.opname == "RETURN_CONST" or target == "STORE_ATTR" or following[0].startswith(_USES):
                return True
    return False


def _is_empty(code) -> bool:
    steps = list(dis.get_instructions(code))
    used = {step.opname for step in steps}
    if any(step.argval == "NotImplementedError" for step in steps):
        return used <= _RAISE  # a branch before the raise is somebody's work
    returned = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return returned == [None] and used <= _EMPTY
