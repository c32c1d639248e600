"""Faults with tensors: shapes, gradients, dtypes, starts, what trains and what is saved."""

import ast
import re
from collections.abc import Iterator

from .arithmetic import OTHER
from .page import SWITCHES_GRADIENTS, Fault, Page, name_of

PAIRS = (("triu", "tril"), ("sin", "cos"), ("sigmoid", "tanh"), ("floor", "ceil"), ("clamp_min", "clamp_max"))
FUNCTION = {b: a for a, b in PAIRS} | dict(PAIRS)
DROPPED = {
    "transpose": {"transpose", "t", "permute", "swapaxes", "movedim"},
    "detach": {"detach"},
    "cast": {"float", "double", "bfloat16", "half", "long", "bool", "type_as"},
    "copy": {"clone"},
    "function": {"sqrt", "rsqrt", "square", "abs", "exp", "log", "reciprocal", "sign", "neg"},
}
SHAPED = ("reshape view unflatten permute expand zeros ones randn rand empty new_weight new_uniform").split()
NN = '__import__("torch").nn'


def called(node: ast.Call, page: Page) -> Iterator[Fault]:
    """A method or function that was forgotten, or taken for its neighbour."""
    name, func = name_of(node), node.func
    receiver = page.of(func.value) if isinstance(func, ast.Attribute) else ""
    subject = page.of(node.args[0]) if receiver in ("torch", "math", "F", "torch.linalg") and node.args else receiver
    for operator, names in DROPPED.items():
        into_parameter = operator == "detach" and "Parameter" in map(
            name_of, calls_above(node, page)
        )  # it detaches too
        if name in names and subject and not into_parameter:
            yield operator, node, subject
    if name in OTHER or name in FUNCTION:
        new = page.of(func)[: -len(name)] + (OTHER | FUNCTION)[name]
        yield ("reduction" if name in OTHER else "function"), func, new
    if name == "to" and node.args and not re.search(r"\bdevice\b", page.of(node.args[0])):
        yield "cast", node, receiver
    if name in ("deepcopy", "copy") and node.args:
        yield "copy", node, page.of(node.args[0])
    if name == "range" and len(node.args) == 1:
        yield "off by one", node, f"range({page.of(node.args[0])} - 1)"
    if name in SHAPED and len(node.args) >= 2 + name.startswith("new_"):
        *_, a, b = node.args
        if not isinstance(a, ast.Starred | ast.Constant) or not isinstance(b, ast.Starred | ast.Constant):
            start, end = page.span(a)[0] - page.span(node)[0], page.span(b)[1] - page.span(node)[0]
            whole = page.data[slice(*page.span(node))]
            swapped = f"{page.of(b)}, {page.of(a)}".encode()
            yield "order", node, (whole[:start] + swapped + whole[end:]).decode()


def calls_above(node: ast.AST, page: Page) -> list[ast.Call]:
    return [n for n in page.above(node) if isinstance(n, ast.Call)]


def keywords(node: ast.Call, page: Page) -> Iterator[Fault]:
    for word in node.keywords:
        if word.arg == "dtype" and name_of(node) not in ("finfo",):
            yield "cast", node, without(node, word, page)
        if word.arg == "persistent":
            yield "freeze", word.value, str(not getattr(word.value, "value", True))
        if word.arg == "requires_grad":
            yield "freeze", word.value, f"(not {page.of(word.value)})"


def without(call: ast.Call, word: ast.keyword, page: Page) -> str:
    """The call without one of its keywords."""
    kept = [page.of(a) for a in call.args]
    kept += [page.data[slice(*page.span(k))].decode() for k in call.keywords if k is not word]
    return f"{page.of(call.func)}({', '.join(kept)})"


def starts(node: ast.Call, page: Page) -> Iterator[Fault]:
    name, func = name_of(node), page.of(node.func)
    if func.startswith(("nn.init.", "init.")) and node.args:
        yield "start", node, f"{NN}.init.{'normal_' if name == 'zeros_' else 'zeros_'}({page.of(node.args[0])})"
    elif name in ("zeros", "zeros_like", "new_zeros"):
        yield "start", node.func, func.replace("zeros", "ones")
    elif name in ("ones", "ones_like", "new_ones"):
        yield "start", node.func, func.replace("ones", "zeros")
    elif name in ("randn", "rand", "randn_like", "rand_like", "eye"):
        yield "start", node, f"({page.of(node)} * 0)"
    elif name == "new_uniform":
        yield "start", node, f"{NN}.init.zeros_({page.of(node)})"
    elif name == "new_weight" and not drawn_later(node, page):
        yield "start", node, f"{NN}.init.normal_({page.of(node)})"


def drawn_later(node: ast.Call, page: Page) -> bool:
    """These zeros are only the room for a draw, or stand for a dtype and a device."""
    around = [page.of(n.func) for n in calls_above(node, page)]
    if any("init." in name or name.endswith((".to", "_like")) for name in around):
        return True
    statement = next(n for n in page.above(node) if isinstance(n, ast.stmt))
    targets = [t for t in ast.walk(statement) if isinstance(getattr(t, "ctx", None), ast.Store)]
    function = page.function_around(node)
    names = [page.of(t) for t in targets if not isinstance(t, ast.Tuple)]
    return bool(function) and any(re.search(rf"init\.\w+\({re.escape(n)}\b", page.of(function)) for n in names)


def freezes(node: ast.Call, page: Page) -> Iterator[Fault]:
    name, given = name_of(node), [k.arg for k in node.keywords]
    if name == "Parameter" and "requires_grad" not in given:
        yield "freeze", node, f"{page.of(node)[:-1]}, requires_grad=False)"
    if name == "requires_grad_":
        on = not node.args or page.of(node.args[0]) == "True"
        yield "freeze", node, f"{page.of(node.func)}({not on})"
    if name == "register_buffer" and len(node.args) == 2:
        owner, (key, value) = page.of(node.func.value), node.args
        if not isinstance(value, ast.IfExp | ast.Constant):
            thawed = f"{NN}.Parameter({page.of(value)})"
            yield "freeze", node, f"{owner}.register_parameter({page.of(key)}, {thawed})"
        if "persistent" not in given:
            yield "freeze", node, f"{page.of(node)[:-1]}, persistent=False)"


def attribute(node: ast.Attribute, page: Page) -> Iterator[Fault]:
    if node.attr in ("T", "mT", "H", "mH"):
        yield "transpose", node, page.of(node.value)


def returned(node: ast.Return, page: Page) -> Iterator[Fault]:
    function = page.function_around(node)
    kind = ast.unparse(function.returns) if function.returns else ""
    has_none = any(word in page.of(d) for d in function.decorator_list for word in SWITCHES_GRADIENTS)
    if re.match(r"(Float|Shaped|Tensor)", kind) and not has_none and not page.of(node.value).endswith(".detach()"):
        yield "detach", node.value, f"{page.of(node.value)}.detach()"
