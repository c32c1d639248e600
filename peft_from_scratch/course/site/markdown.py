"""Markdown as HTML: maths as MathML, code coloured, headings with anchors, no picture from the network."""

import re
import unicodedata
from html import escape

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

from .highlight import highlight


class Page:
    """Renders the Markdown pieces of one page; `headings` collects (level, anchor, text) over all of them.

    links   a function from a link's address to the address on the site; None turns the link into plain words
    """

    def __init__(self, links):
        self.links, self.headings, self.used = links, [], set()
        self.parser = MarkdownIt("commonmark", {"html": True, "highlight": _fence}).enable("table")
        self.parser.use(dollarmath_plugin, renderer=_maths, allow_space=True, double_inline=True)

    def html(self, text: str) -> str:
        """One piece of Markdown as HTML."""
        tokens = self.parser.parse(text)
        for place, token in enumerate(tokens):
            if token.type == "heading_open":
                self._heading(token, tokens[place + 1])
            if token.type == "inline":
                token.children = self._linked(token.children)
        page = self.parser.renderer.render(tokens, self.parser.options, {})
        page = page.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
        page = page.replace("<th></th>", "<td></td>")  # a heading without words is none
        return page.replace("<pre>", '<pre tabindex="0">')

    def _heading(self, token: Token, inside: Token) -> None:
        words = plain(inside)
        anchor = self._anchor(words)
        token.attrSet("id", anchor)
        self.headings.append((int(token.tag[1]), anchor, words))

    def _anchor(self, words: str) -> str:
        name = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
        name = re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "part"
        free = next(each for each in (name, *(f"{name}-{n}" for n in range(2, 999))) if each not in self.used)
        self.used.add(free)
        return free

    def _linked(self, tokens: list[Token]) -> list[Token]:
        """Links to the site's own pages; pictures from the network become their words, and links to nowhere too."""
        out, dropped = [], []
        for token in tokens:
            if token.type == "image" and re.match(r"https?:", token.attrs["src"]):
                token = Token("text", "", 0, content=token.content)
            if token.type == "link_open":
                to = self.links(token.attrs["href"])
                dropped.append(to is None)
                token.attrs["href"] = to or ""
            gone = token.type in ("link_open", "link_close") and dropped[-1]
            out += [] if gone else [token]
            if token.type == "link_close":
                dropped.pop()
        return out


def plain(inline: Token) -> str:
    """The words of a heading, without marks."""
    kinds = ("text", "code_inline", "math_inline")
    return "".join(child.content for child in inline.children if child.type in kinds)


def _maths(latex: str, options: dict) -> str:
    return convert(latex, display="block" if options["display_mode"] else "inline")


def _fence(code: str, language: str, _) -> str:
    """A block whose language is named is coloured; another one is output, or words. A line of words may be broken."""
    if language in ("python", "py"):
        return f"<pre><code>{highlight(code)}</code></pre>\n"
    said = ' class="said"' if code.strip().count("\n") == 0 else ""
    return f'<pre{said} tabindex="0"><code>{escape(code, quote=False)}</code></pre>\n'
