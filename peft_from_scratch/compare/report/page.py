"""The report as one page that needs nothing else, and as Markdown with its figures beside it."""

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ...plots import GREY, STYLE
from .section import Section

TITLE = "Parameter-efficient fine-tuning beside full fine-tuning, measured"
READING = (
    "Every method had the same data, the same order of batches and the same budget; each had its own learning rate, "
    "where it was searched the best of half decades on dev, none of them at an edge. Test was looked at once, after "
    "that. "
    "Intervals are 95 % of a bootstrap over seeds and test items; differences to full fine-tuning are paired. FLOPs "
    "and bytes are counted for one step of full length (weights, gradients, Adam's moments, and what is saved for "
    "backward). Times are ratios: a step of the method and one of full fine-tuning by turns, the median of 15 rounds "
    "with its quartiles, which hold the true median with 96 % confidence."
)
CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1e21; --soft: #5a6068; --line: #d8dbe0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --ink: #e6e8eb; --soft: #a4abb5; --line: #343941; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p, figcaption { max-width: 46rem; } figure { margin: 1.5rem 0; }
.wide { overflow-x: auto; } svg { display: block; min-width: 34rem; max-width: 100%; height: auto; color: var(--soft); }
svg text { font-family: system-ui, sans-serif !important; }
figcaption, .source, caption { color: var(--soft); font-size: .9rem; text-align: left; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 14rem; } tbody th { font-weight: 600; }
nav ul { padding-left: 1.2rem; } a { color: inherit; }
"""


def page(parts: Sequence[Section]) -> str:
    """One HTML page: style and figures within, nothing asked of a network."""
    links = "".join(f'<li><a href="#s{i}">{words(part.title)}</a></li>' for i, part in enumerate(parts))
    body = "".join(section_html(part, i) for i, part in enumerate(parts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{words(TITLE)}</title><style>{CSS}</style></head>\n<body><main><h1>{words(TITLE)}</h1>"
        f"<p>{words(READING)}</p><nav><ul>{links}</ul></nav>\n{body}</main></body></html>\n"
    )


def section_html(part: Section, place: int) -> str:
    text = "".join(f"<p>{words(line)}</p>" for line in part.words)
    drawn = "".join(figure_html(fig, alt, f"f{place}-{i}") for i, (_, fig, alt) in enumerate(part.figures))
    tables = "".join(table_html(caption, lines) for caption, lines in part.tables)
    source = f'<p class="source">From {words(part.source)}.</p>' if part.source else ""
    return f'<section id="s{place}"><h2>{words(part.title)}</h2>\n{text}{drawn}{tables}{source}</section>\n'


def figure_html(fig: Figure, alt: str, key: str) -> str:
    drawn = svg(fig, key).replace("<svg ", f'<svg role="img" aria-labelledby="{key}-words" ', 1)
    said = f'<figcaption id="{key}-words">{words(alt)}</figcaption>'
    return f'<figure><div class="wide" tabindex="0">{drawn}</div>{said}</figure>\n'  # a wide one moves by keyboard


def svg(fig: Figure, key: str) -> str:
    """The figure as an element of a page: text as text, grey as the page's own colour, ids of its own."""
    out = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}):
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.S)
    drawn = drawn.replace(GREY, "currentColor")
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", drawn)


def table_html(caption: str, lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{words(cell)}</th>' for cell in lines[0])
    body = "".join(
        f'<tr><th scope="row">{words(line[0])}</th>{"".join(f"<td>{words(cell)}</td>" for cell in line[1:])}</tr>\n'
        for line in lines[1:]
    )
    return (
        f'<div class="wide" tabindex="0"><table><caption>{words(caption)}</caption><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def words(text: str) -> str:
    return html.escape(text)


def markdown(parts: Sequence[Section], folder: str) -> str:
    """The same as Markdown; figures are in `folder`."""
    lines = [f"# {TITLE}", "", READING, ""]
    for part in parts:
        lines += [f"## {part.title}", ""]
        for text in part.words:
            lines += [text, ""]
        for name, _, alt in part.figures:
            lines += [f"![{alt}]({folder}/{name}.png)", "", alt, ""]
        for caption, table in part.tables:
            lines += [f"**{caption}**", "", *table_markdown(table), ""]
        if part.source:
            lines += [f"From {part.source}.", ""]
    return "\n".join(lines)


def table_markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return [head, "|" + "---|" * len(lines[0]), *body]


def save_figures(parts: Sequence[Section], folder: Path) -> None:
    """Each figure as a PNG without a ground of its own, for light and dark pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, fig, _ in part.figures:
            with matplotlib.rc_context(STYLE):
                fig.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
