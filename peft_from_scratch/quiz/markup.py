"""The marks of a prompt as clean HTML, for pages and for other systems; who shows maths how is a parameter.

(`text.py` does the same for widgets and terminals, which need styles of their own.)
"""

import html
import re
from collections.abc import Callable
from importlib.util import find_spec

from .text import PIECES, plain_maths

Maths = Callable[[str], str]  # LaTeX of one line -> HTML
FENCE = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)


def mathjax(latex: str) -> str:
    """Left as LaTeX between \\( and \\): Moodle, Canvas and Anki set that themselves."""
    return rf"\({html.escape(latex, quote=False)}\)"


def dollars(latex: str) -> str:
    """Left as LaTeX between dollar signs, as notebooks have it."""
    return f"${html.escape(latex, quote=False)}$"


def mathml(latex: str) -> str:
    """MathML, which browsers show without any script; Unicode in italics where latex2mathml is not installed."""
    if find_spec("latex2mathml") is None:
        return f"<i>{html.escape(plain_maths(latex), quote=False)}</i>"
    from latex2mathml.converter import convert

    return convert(latex)


def inline(text: str, maths: Maths) -> str:
    """One paragraph of prose: code, bold and maths become HTML."""

    def piece(match: re.Match) -> str:
        if match["maths"]:
            return maths(match["maths"])
        if match["block"]:  # where only a run of words may stand
            return f'<code class="block">{escape(FENCE.match(match["block"])[1])}</code>'
        if match["code"]:
            return f"<code>{escape(match['code'])}</code>"
        return f"<b>{inline(match['bold'], maths)}</b>"

    out, start = [], 0
    for match in PIECES.finditer(text):
        out += [escape(text[start : match.start()]), piece(match)]
        start = match.end()
    return "".join([*out, escape(text[start:])])


def rich(text: str, maths: Maths) -> str:
    """Paragraphs and blocks of code, one after the other."""
    out = []
    for i, part in enumerate(FENCE.split(text.strip())):
        if i % 2:  # the split alternates prose and code
            out.append(code(part))
        else:
            out += [f"<p>{inline(' '.join(each.split()), maths)}</p>" for each in part.split("\n\n") if each.strip()]
    return "".join(out)


def code(lines: str) -> str:
    """A block of code."""
    return f"<pre><code>{escape(lines.rstrip())}</code></pre>"


def web(text: str) -> str:
    """`rich` for a page: maths as MathML; a block of code can be scrolled with the keyboard."""
    return focusable(rich(text, mathml))


def focusable(page: str) -> str:
    """Blocks of code that the Tab key reaches, since a narrow screen cuts them off."""
    return page.replace("<pre>", '<pre tabindex="0">')


def escape(text: str) -> str:
    return html.escape(text, quote=False)
