"""Two ways to show a prompt: HTML for widgets (maths stays $...$), plain text for terminals.

Prompts use a small part of Markdown: `code`, **bold**, $maths$, blank lines, and ``` blocks.
"""

import html
import re
import textwrap

SYMBOLS = {
    "alpha": "α", "beta": "β", "Delta": "Δ", "delta": "δ", "lambda": "λ", "sigma": "σ", "Sigma": "Σ", "theta": "θ",
    "epsilon": "ε", "eta": "η", "times": "×", "cdot": "·", "le": "≤", "ge": "≥", "ne": "≠", "approx": "≈", "in": "∈",
    "top": "ᵀ", "sum": "Σ", "pm": "±", "to": "→", "infty": "∞", "ldots": "…", "quad": " ", "odot": "⊙",
}  # fmt: skip
RAISED = str.maketrans("0123456789+-nTk", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀᵏ")
CODE = "font-family: var(--jp-code-font-family, monospace); font-size: 0.95em;"
BLOCK = f"{CODE} border-left: 3px solid #8888; padding: 0.3em 0.8em; line-height: 1.4; white-space: pre-wrap;"
PIECES = re.compile(
    r"(?P<block>```[a-z]*\n.*?```)|`(?P<code>[^`\n]+)`|\$(?P<maths>[^$\n]+)\$|\*\*(?P<bold>[^*]+)\*\*", re.DOTALL
)


def plain_maths(latex: str) -> str:
    """LaTeX of one line as Unicode: `\\frac{\\alpha}{r} B A` gives `α/r B A`."""
    text = re.sub(r"\\(?:text|mathrm|mathbf|mathbb|operatorname)\{([^{}]*)\}", r"\1", latex)
    text = re.sub(r"\\[,;! ]|\\left|\\right", " ", text)
    text = re.sub(r"_\{([^{}]*)\}", r"_\1", text)
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", lambda m: f"{_group(m[1])}/{_group(m[2])}", text)
    text = re.sub(r"\\sqrt\{([^{}]*)\}", lambda m: f"√{_group(m[1])}", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: SYMBOLS.get(m[1], m[0]), text)
    text = re.sub(r"\^\{?([0-9+\-nTk]+)\}?", lambda m: m[1].translate(RAISED), text)
    return re.sub(r"\s+", " ", re.sub(r"\^?ᵀ", "ᵀ", text)).strip()


def _group(text: str) -> str:
    return f"({text})" if re.search(r"[ +\-]|\\cdot|\\times", text.strip()) else text.strip()


def to_plain(text: str) -> str:
    """A prompt without its marks, one line a paragraph; code blocks keep their lines, indented by four."""

    def inline(match: re.Match) -> str:
        return plain_maths(match["maths"]) if match["maths"] else match["code"] or match["bold"]

    parts = []
    for i, part in enumerate(re.split(r"```[a-z]*\n(.*?)\n?```", text, flags=re.DOTALL)):
        if i % 2:  # the split alternates prose and code
            parts.append(indent(part))
        else:
            parts += [PIECES.sub(inline, " ".join(para.split())) for para in part.split("\n\n") if para.strip()]
    return "\n\n".join(parts)


def wrap(text: str, first: str = "", rest: str = "", width: int = 88) -> str:
    """Break the long lines of plain text; lines of code (indented by four) stay."""
    lines = text.splitlines()
    breaks = [
        line if line.startswith("    ") else textwrap.fill(line, width, initial_indent=rest, subsequent_indent=rest)
        for line in lines
    ]
    return first + "\n".join(breaks)[len(rest) :]


def indent(code: str) -> str:
    """A block of code for a terminal."""
    return "\n".join(f"    {line}".rstrip() for line in code.rstrip().splitlines())


def to_html(text: str) -> str:
    """A prompt as HTML for `HTMLMath`; no colours, so that light and dark themes both read."""

    def paragraphs(plain: str) -> str:
        return html.escape(plain, quote=False).replace("\n\n", "<br><br>")

    out, start = [], 0
    for match in PIECES.finditer(text.strip()):
        out += [paragraphs(text.strip()[start : match.start()]), _html_piece(match)]
        start = match.end()
    return "".join([*out, paragraphs(text.strip()[start:])])


def _html_piece(match: re.Match) -> str:
    if match["block"]:
        return code_html(_inside(match["block"]))
    if match["code"]:
        return f'<code style="{CODE}">{html.escape(match["code"], quote=False)}</code>'
    if match["maths"]:
        return f"${html.escape(match['maths'], quote=False)}$"
    return f"<b>{html.escape(match['bold'], quote=False)}</b>"


def code_html(code: str) -> str:
    """A block of code as HTML."""
    return f'<pre style="{BLOCK}">{html.escape(code.rstrip(), quote=False)}</pre>'


def _inside(block: str) -> str:
    """The lines between the ``` marks."""
    return block.split("\n", 1)[1].removesuffix("```").rstrip("\n")
