"""A lesson's page: its text, its code, what the code printed and drew, and its quiz, which works."""

import re
from html import escape

from ...quiz.model import Quiz
from ...quiz.web.page import quiz_section
from .highlight import highlight
from .markdown import Page
from .outputs import outputs_html

QUIZ = re.compile(r"""^quiz\(["']""", re.MULTILINE)
REVEAL = re.compile(r"""\breveal\(["']""")
SETUP = "%pip install"

MODES = {
    "ci": "The outputs here come from a tiny random model, so that they could be made in seconds: "
    "<b>these numbers mean nothing</b>. Run the notebook to see real ones.",
    "cpu": "The outputs here come from a run on two CPU cores, with nothing written in the exercises: after each one "
    "the reference stands in.",
    "gpu": "The outputs here come from a run on a GPU, with nothing written in the exercises: after each one the "
    "reference stands in.",
}


def lesson_body(notebook, page: Page, quiz: Quiz | None, mode: str) -> str:
    """The cells, one after the other; `page` collects their headings."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(page.html(without_badge(cell.source)))
            if len(parts) == 1:
                parts.append(f'<p class="note">{MODES[mode]}</p>')
        elif cell.cell_type == "code" and SETUP not in cell.source:
            parts.append(quiz_section(quiz, level=3) if quiz and QUIZ.search(cell.source) else _code(cell))
    return "\n".join(parts)


def _code(cell) -> str:
    exercise = cell.metadata.get("pfs", {}).get("exercise")
    label = f'<p class="task">Exercise cell: <code>{escape(exercise)}</code></p>' if exercise else ""
    shown = outputs_html(cell)
    if shown and REVEAL.search(cell.source):  # who reads on has predicted before
        shown = f"<details><summary>Predict first, then open: what came out</summary>{shown}</details>"
    return f'<div class="cell{" exercise" if exercise else ""}">{label}{block(cell.source)}{shown}</div>'


def block(code: str) -> str:
    """Python code as a block."""
    return f'<pre class="source" tabindex="0"><code>{highlight(code)}</code></pre>'


def without_badge(source: str) -> str:
    """The badge is a picture from the network; its address is a template until a fork stamps it."""
    source = re.sub(r"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\)\s*", _colab, source)
    return re.sub(r"\s*Source:\s*\[[^\]]*\]\([^)]*OWNER/NAME[^)]*\)\.?", "", source)


def _colab(match: re.Match) -> str:
    return "" if "OWNER/NAME" in match[1] else f"[Open in Colab]({match[1]})\n\n"
