"""A page as text and tree at once, so that one place of it can be rewritten and shown as a changed line."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Tuple, ast.Dict)
PROSE = {"extra_repr", "__repr__", "CARD", "CARDS"}
SWITCHES_GRADIENTS = {"no_grad", "enable_grad", "inference_mode"}
Fault = tuple[str, ast.AST, str]  # the operator, what it replaces, and by what


@dataclass(frozen=True)
class Mutant:
    """One fault at one place. `function` is the outermost function around it, "" at module or class level."""

    operator: str
    function: str
    lines: tuple[int, int]  # of the statement, or of its head
    line: int
    before: str  # the source line, and what becomes of it
    after: str
    text: str  # the whole mutated page

    def key(self) -> tuple[str, str, str]:
        return self.operator, self.before, self.after


class Page:
    """The syntax tree with each node's parent; `nodes` leaves out what is no arithmetic (see `prose`)."""

    def __init__(self, text: str):
        self.text, self.data = text, text.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.tree, self.parent, self.nodes = ast.parse(text), {}, []
        self.visit(self.tree)

    def visit(self, node: ast.AST) -> None:
        self.nodes.append(node)
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.parent[child] = node
                    if not prose(node, name, child):
                        self.visit(child)

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.AST) -> str:
        """Its text, in brackets where its neighbours could pull it apart."""
        start, end = self.span(node)
        text = self.data[start:end].decode()
        return text if isinstance(node, ATOMS) else f"({text})"

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parent:
            node = self.parent[node]
            yield node

    def function_around(self, node: ast.AST) -> ast.FunctionDef | None:
        """The innermost function whose body (not whose decorators) holds the node."""
        chain = [node, *self.above(node)]
        for child, outer in zip(chain, chain[1:], strict=False):
            if isinstance(outer, ast.FunctionDef) and child not in outer.decorator_list:
                return outer
        return None

    def outermost(self, node: ast.AST) -> str:
        """`Class.method` or `function`: what a mutated body can be put into while the program runs."""
        name = ""
        chain = [node, *self.above(node)]
        for child, outer in zip(chain, chain[1:], strict=False):
            if isinstance(outer, ast.FunctionDef):
                name = outer.name if child not in outer.decorator_list else ""
            elif isinstance(outer, ast.ClassDef) and name:
                name = f"{outer.name}.{name}"
        return name

    def mutant(self, operator: str, at: ast.AST, new: str) -> Mutant | None:
        """The page with `new` in place of `at`; None where that is no program."""
        start, end = self.span(at)
        if at in getattr(self.parent.get(at), "decorator_list", ()):
            start -= 1  # the @ as well
        text = (self.data[:start] + new.encode() + self.data[end:]).decode()
        try:
            ast.parse(text)
        except SyntaxError:
            return None
        statement = next(n for n in [at, *self.above(at)] if isinstance(n, ast.stmt))
        body = getattr(statement, "body", None)
        last = max(body[0].lineno - 1, statement.lineno) if body else statement.end_lineno
        old_lines, new_lines = self.text.splitlines(), text.splitlines()
        stop = at.end_lineno - len(old_lines) + len(new_lines)
        before, after = old_lines[at.lineno - 1 : at.end_lineno], new_lines[at.lineno - 1 : stop]
        words = [" ".join(" ".join(lines).split()) for lines in (before, after)]
        return Mutant(operator, self.outermost(at), (statement.lineno, last), at.lineno, *words, text)


def name_of(call: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def prose(node: ast.AST, field: str, child: ast.AST) -> bool:
    """What no fault is put into: docstrings, annotations, defaults (a default is a choice), cards, words of errors."""
    if isinstance(child, ast.arguments | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if field in ("annotation", "returns", "bases") or isinstance(node, ast.Raise):
        return True
    if field == "decorator_list":
        return not any(word in ast.unparse(child) for word in SWITCHES_GRADIENTS)
    if isinstance(child, ast.FunctionDef):
        return child.name in PROSE
    if isinstance(child, ast.Assign | ast.AnnAssign):
        target = child.targets[0] if isinstance(child, ast.Assign) else child.target
        return isinstance(target, ast.Name) and target.id in PROSE
    return isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
