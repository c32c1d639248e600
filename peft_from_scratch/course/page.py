"""One self-contained HTML page: no script, no request, light and dark, readable on a phone and on paper."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f23; --soft: #57606a; --paper: #ffffff; --card: #f3f5f7; --line: #d0d7de;
  --good: #00664b; --bad: #a8420d; --accent: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --paper: #10151b; --card: #1a222b;
  --line: #35404c; --good: #4fc3a1; --bad: #f0935a; --accent: #7ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 50rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } a { color: var(--accent); }
p.soft, .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { overflow-wrap: normal; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--card); padding: .7rem .9rem; overflow-x: auto; border-radius: .4rem; font-size: .85rem; }
code { font-family: ui-monospace, monospace; } summary { cursor: pointer; }
.card { background: var(--card); border-radius: .5rem; padding: .7rem 1rem; margin: .6rem 0; }
.look { border-left: .3rem solid var(--bad); } .done { border-left: .3rem solid var(--good); }
.good { color: var(--good); } .bad { color: var(--bad); }
ul.plain { list-style: none; padding: 0; margin: .3rem 0; }
.bar { display: flex; height: .8rem; border-radius: .4rem; overflow: hidden; background: var(--line); min-width: 6rem; }
.bar span { background: var(--good); } .bar span + span { background: var(--bad); }
@media print { body { max-width: none; } details { display: block; } }
"""


def page(title: str, *body: str) -> str:
    """The whole document; `body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def tag(name: str, content: object, **attributes: str) -> str:
    """An element around text, which is escaped; `cls` is its class."""
    return raw(name, escape(str(content)), **attributes)


def raw(name: str, content: str, **attributes: str) -> str:
    """An element around HTML."""
    said = "".join(f' {"class" if key == "cls" else key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{said}>{content}</{name}>"


def table(heads: list[str], rows: list[list[str]], numbers: tuple[int, ...] = ()) -> str:
    """A table whose cells are HTML; columns in `numbers` stand to the right."""

    def line(kind: str, cells: list[str], **more: str) -> str:
        classes = [{"cls": "n"} if at in numbers else {} for at in range(len(cells))]
        return raw("tr", "".join(raw(kind, cell, **each, **more) for cell, each in zip(cells, classes, strict=True)))

    top = raw("thead", line("th", [escape(head) for head in heads], scope="col"))
    return raw("div", raw("table", top + raw("tbody", "".join(line("td", row) for row in rows))), cls="wide")


def bar(*parts: float) -> str:
    """Shares of one, as a bar; the words beside it say the same."""
    return raw("div", "".join(raw("span", "", style=f"width:{100 * part:.1f}%") for part in parts), cls="bar",
               **{"aria-hidden": "true"})  # fmt: skip
