"""The methods table, and each page of code behind it."""

from html import escape

from ...methods.table import COLUMNS, PACKAGE, rows
from .lesson import block

INTRO = (
    "Every method of the course, with what it trains on one site, whether it folds into the weight, and the library "
    "that it is held equal to on the same weights. A name leads to its page of code."
)


def table_body() -> str:
    """methods.html."""
    table = rows()
    shown = [name for name in COLUMNS if name != "page"]  # it is behind the method's name
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in shown)
    body = "".join(_row(row) for row in table)
    return (
        f"<h1>The {len(table)} methods</h1><p>{INTRO}</p>"
        f'<div class="wide" tabindex="0"><table class="methods"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: tuple[str, ...]) -> str:
    name, *cells, path, lines = row
    shown = [f"<code>{escape(cell)}</code>" if i == 3 else escape(cell) for i, cell in enumerate(cells)]
    link = f'<a href="{address(path)}">{escape(name)}</a>'
    return f'<tr><th scope="row">{link}</th>{"".join(f"<td>{each}</td>" for each in [*shown, lines])}</tr>'


def address(path: str) -> str:
    """Where the code of "methods/lowrank/lora.py" stands on the site."""
    return f"code/{path.removesuffix('.py').replace('/', '-')}.html"


def code_pages() -> dict[str, tuple[str, str]]:
    """Address -> (title, body) for each page of code, the methods that it holds in its title."""
    holds: dict[str, list[str]] = {}
    for name, *_, path, _lines in rows():
        holds.setdefault(path, []).append(name)
    made = {}
    for path, names in holds.items():
        title = ", ".join(names)
        code = (PACKAGE / path).read_text(encoding="utf-8")
        made[address(path)] = title, f"<h1>{escape(title)}</h1><p><code>{path}</code></p>{block(code)}"
    return made
