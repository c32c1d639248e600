"""Faults in numbers: a scale, a sign, a term, an order, an index, a reduction, a comparison."""

import ast
import re
from collections.abc import Iterator

from .page import Fault, Page, name_of

PAIRS = (("sum", "mean"), ("max", "min"), ("amax", "amin"), ("argmax", "argmin"), ("any", "all"), ("prod", "sum"))
OTHER = {b: a for a, b in PAIRS} | dict(PAIRS)
WITH_DIM = {"softmax", "norm", "cat", "stack", "unsqueeze", "squeeze", "cumsum", "flip", "argsort"} | OTHER.keys()


def binary(node: ast.BinOp, page: Page) -> Iterator[Fault]:
    a, b, op = page.of(node.left), page.of(node.right), type(node.op)
    if any(isinstance(n, ast.JoinedStr) or isinstance(getattr(n, "value", 0), str) for n in ast.walk(node)):
        return
    if op is ast.Mult:
        yield "scale", node, a
        yield "scale", node, b
    elif op is ast.Div:
        yield "scale", node, f"({a} * {b})"
    elif op in (ast.Add, ast.Sub):
        if not isinstance(node.left, ast.List | ast.Tuple) and not isinstance(node.right, ast.List | ast.Tuple):
            yield "sign", node, f"({a} {'-' if op is ast.Add else '+'} {b})"
        yield "term", node, a
        if op is ast.Add:
            yield "term", node, b
    elif op is ast.MatMult:
        yield "order", node, f"({b} @ {a})"
    elif op is ast.Pow:
        yield "function", node, a


def unary(node: ast.UnaryOp, page: Page) -> Iterator[Fault]:
    if isinstance(node.op, ast.Not):
        yield "condition", node, page.of(node.operand)
    elif isinstance(node.op, ast.USub) and not is_index(node, page):
        yield "sign", node, page.of(node.operand)


def number(node: ast.Constant, page: Page) -> Iterator[Fault]:
    """An int is one too large; a float is doubled, where it is no mere guard against zero."""
    value, outer = node.value, page.parent[node]
    if is_index(node, page) or (isinstance(outer, ast.UnaryOp) and is_index(outer, page)):
        return
    if type(value) is int and not isinstance(outer, ast.Compare):  # there `bound` and `condition` say it
        yield "off by one", node, str(value + 1)
    elif type(value) is float and not 0 < value <= 1e-3:
        yield "scale", node, repr(2 * value or 1.0)


def is_index(node: ast.AST, page: Page) -> bool:
    """A dimension of a reduction: `dim` has a fault of its own."""
    call = page.parent[node]
    if isinstance(call, ast.keyword):
        return call.arg in ("dim", "axis")
    return isinstance(call, ast.Call) and name_of(call) in WITH_DIM and node in call.args and not builtin(call)


def builtin(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name)


def dims(node: ast.Call, page: Page) -> Iterator[Fault]:
    """dim=0 -> -1, any other -> 0."""
    at = [k.value for k in node.keywords if k.arg in ("dim", "axis")]
    at += node.args if name_of(node) in WITH_DIM and not builtin(node) else []
    for place in at:
        if re.fullmatch(r"-?\d", page.of(place).strip("()")):
            yield "reduction", place, "-1" if page.of(place) == "0" else "0"


def subscript(node: ast.Subscript, page: Page) -> Iterator[Fault]:
    """x[:n] -> x[:n - 1] and x[n:] -> x[n - 1:]; numbers have their fault anyway."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for part in parts:
        for end in (part.lower, part.upper) if isinstance(part, ast.Slice) else ():
            if end is not None and not isinstance(end, ast.Constant | ast.UnaryOp):
                yield "off by one", end, f"{page.of(end)} - 1"
