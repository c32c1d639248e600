"""Python code with its parts marked by short classes; the colours stand in site.css, for light and dark."""

from html import escape

from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

CLASSES: list[tuple[_TokenType, str]] = [
    (Comment, "c"), (Keyword, "k"), (Operator.Word, "k"), (String, "s"), (Number, "n"),
    (Name.Function, "f"), (Name.Class, "f"), (Name.Decorator, "d"), (Name.Builtin, "b"),
]  # fmt: skip


def highlight(code: str) -> str:
    """HTML without a block around it."""
    out = []
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code.rstrip("\n")):
        mark = next((name for each, name in CLASSES if kind in each), None)
        shown = escape(text, quote=False)
        out.append(f'<span class="{mark}">{shown}</span>' if mark and text.strip() else shown)
    return "".join(out)
