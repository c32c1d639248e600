"""One sheet a lesson, to print: its aim, its equations, its exercises, and what one can say afterwards."""

import re
from html import escape

from ...check.exercise import Lesson
from .links import site_links
from .markdown import Page

DISPLAYED = re.compile(r"\$\$.+?\$\$", re.DOTALL)
INLINE = re.compile(r"\$[^$\n]+\$")
MOST = 10  # it is one sheet
LAST = re.compile(r"## You can now say\s+(.*?)(?=\n\*\*Late|\n## |\Z)", re.DOTALL)


def sheet_body(lesson: Lesson, notebook) -> str:
    """The sheet as a body of a page; everything is taken from the lesson, nothing is written twice."""
    texts, page = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"], Page(site_links)
    aim = texts[0].split("\n\n")[1] if texts and "\n\n" in texts[0] else ""
    parts = [f"<h1>{lesson.id} {escape(lesson.title)}</h1>", page.html(aim)]
    if equations := _equations(texts):
        parts += ["<h2>Equations</h2>", page.html("\n\n".join(equations))]
    parts += ["<h2>Exercises</h2>", _exercises(lesson)]
    if said := LAST.search(texts[-1] if texts else ""):
        parts += ["<h2>You can now say</h2>", page.html(said[1])]
    return "\n".join(parts)


def _equations(texts: list[str]) -> list[str]:
    """Displayed ones, then those in the text that are no worked numbers; each once."""
    shown = [found for text in texts for found in DISPLAYED.findall(text)]
    inside = [found for text in texts for found in INLINE.findall(DISPLAYED.sub("", text))]
    general = [found for found in inside if "=" in found and not re.search(r"\d\d|[<>]", found)]
    return list(dict.fromkeys(shown + general))[:MOST]


def _exercises(lesson: Lesson) -> str:
    rows = "".join(
        f'<tr><th scope="row">{i}</th><td>{escape(each.title)}</td><td>{each.points}</td><td>{each.minutes}</td>'
        f"<td><code>{escape(each.name)}</code></td></tr>"
        for i, each in enumerate(lesson.exercises, 1)
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("no.", "exercise", "points", "minutes", "name"))
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
