"""What a cell printed or drew, as HTML. Pages of ours only: the HTML that the lessons show is taken as it is."""

import re
from html import escape

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = re.compile(r"\d+%\|.*\||it/s\]|s/it\]")  # a progress bar has nothing to tell once it is full

WIDGET = "application/vnd.jupyter.widget-view+json"


def outputs_html(cell) -> str:
    """All outputs of a cell, in order; texts that follow each other become one block."""
    parts: list[tuple[str, str]] = []
    for output in cell.get("outputs", []):
        kind, shown = _shown(output)
        if kind == "text" and parts and parts[-1][0] == "text":
            parts[-1] = ("text", parts[-1][1] + shown)
        elif shown.strip():
            parts.append((kind, shown))
    return "".join(_block(shown) if kind == "text" else shown for kind, shown in parts)


def _shown(output) -> tuple[str, str]:
    if output.output_type == "stream":
        return "text", _lines(output.text)
    data = output.get("data", {})
    if "text/html" in data:
        return "html", f'<div class="drawn">{data["text/html"]}</div>'
    if "image/png" in data:
        words = escape(data.get("text/plain", "a figure"))
        return "html", f'<img class="drawn" alt="{words}" src="data:image/png;base64,{data["image/png"].strip()}">'
    plain = data.get("text/plain", "")
    if WIDGET in data and re.match(r"[A-Z]\w+\(", plain):  # a widget that brings no words of its own
        return "html", '<p class="note">A control stands here in the notebook.</p>'
    return "text", _lines(plain.rstrip("\n") + "\n")


def _lines(text: str) -> str:
    """A terminal's text: no colours, of a line that was written over only its last state, no progress bars."""
    lines = [line.rsplit("\r", 1)[-1] for line in ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")]
    return "\n".join(line for line in lines if not BAR.search(line))


def _block(text: str) -> str:
    text = text.strip("\n")
    return f'<pre class="printed" tabindex="0">{escape(text, quote=False)}</pre>' if text.strip() else ""
