"""Faults in what runs when: conditions, bounds, checks, statements, the switches of gradients."""

import ast
from collections.abc import Iterator

from .page import SWITCHES_GRADIENTS, Fault, Page

COMPARE = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}  # fmt: skip


def branch(node: ast.If | ast.IfExp | ast.While, page: Page) -> Iterator[Fault]:
    yield from negated(node.test, page)


def comprehension(node: ast.comprehension, page: Page) -> Iterator[Fault]:
    for test in node.ifs:
        yield from negated(test, page)


def negated(test: ast.expr, page: Page) -> Iterator[Fault]:
    if not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
        yield "condition", test, f"(not {page.of(test)})"


def comparison(node: ast.Compare, page: Page) -> Iterator[Fault]:
    outer = page.parent[node]
    decides = isinstance(outer, ast.If | ast.IfExp | ast.While | ast.comprehension | ast.BoolOp)
    for i, op in enumerate(node.ops):
        is_bound = isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE)
        if not is_bound and decides:  # negated as a whole already
            continue
        text = page.of(node.left)
        for j, (each, right) in enumerate(zip(node.ops, node.comparators, strict=True)):
            text += f" {COMPARE[type(each)][i == j]} {page.of(right)}"
        yield ("bound" if is_bound else "condition"), node, f"({text})"


def boolean(node: ast.BoolOp, page: Page) -> Iterator[Fault]:
    word = " or " if isinstance(node.op, ast.And) else " and "
    yield "condition", node, f"({word.join(page.of(v) for v in node.values)})"


def raised(node: ast.Raise, page: Page) -> Iterator[Fault]:
    yield "check", node, "pass"


def expression(node: ast.Expr, page: Page) -> Iterator[Fault]:
    if isinstance(node.value, ast.Call) and "super()" not in page.of(node.value):
        yield "statement", node, "pass"


def assignment(node: ast.Assign | ast.AugAssign, page: Page) -> Iterator[Fault]:
    function = page.function_around(node)
    if isinstance(node, ast.AugAssign):
        yield "statement", node, "pass"
        return
    if function and function.name != "__init__" and isinstance(node.targets[0], ast.Attribute | ast.Subscript):
        yield "statement", node, "pass"
    first = node.targets[0]
    if isinstance(first, ast.Tuple) and len(first.elts) == 2 and ".shape" in page.of(node.value):
        yield "order", first, f"{page.of(first.elts[1])}, {page.of(first.elts[0])}"


def context(node: ast.With, page: Page) -> Iterator[Fault]:
    for item in node.items:
        if any(word in page.of(item.context_expr) for word in SWITCHES_GRADIENTS):
            yield "gradients", item.context_expr, '__import__("contextlib").nullcontext()'


def decorated(node: ast.FunctionDef, page: Page) -> Iterator[Fault]:
    for decorator in node.decorator_list:
        if any(word in page.of(decorator) for word in SWITCHES_GRADIENTS):
            yield "gradients", decorator, ""
