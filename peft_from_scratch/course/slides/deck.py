"""A notebook as slides: a heading makes one; of the text only what a slide can carry is taken.

Kept: equations, tables, lists, sentences with a bold question, figures, the stub of an exercise. A paragraph that
opens a section is cut to its first sentences. The prose stays in the notebook, where it is read.
"""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from ...check.exercise import Lesson
from ..site.lesson import QUIZ, REVEAL, SETUP, block, without_badge
from .notes import Notes

WORDS = 55  # of a paragraph that opens a section
LINES = 14  # of printed output, and of a table
ROOM = 13  # lines of the usual size
READING = 60  # seconds for a slide that says nothing else
PARSER = MarkdownIt("commonmark", {"html": True}).enable("table").use(dollarmath_plugin)


@dataclass
class Slide:
    """Markdown and ready HTML to show below it; notes as Markdown; seconds for the speaker's clock."""

    text: str
    html: str = ""
    notes: str = ""
    seconds: int = READING

    @property
    def size(self) -> float:
        """The size of its letters, as a share of the usual one, so that all of it fits on the screen."""
        lines = sum(1.3 + len(line) // 80 for line in self.text.splitlines() if line)
        return max(0.5, min(1.0, ROOM / (lines + 0.7 * self.html.count("\n") + 0.001)))


def deck(lesson: Lesson, notebook, notes: Notes) -> list[list[Slide]]:
    """Stacks of slides: one a second-level heading, going down for what lies under it."""
    stacks: list[list[Slide]] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for level, part in pieces(without_badge(cell.source)):
                slide = Slide(kept(part))
                if level <= 2 or not stacks:
                    stacks.append([slide])
                elif level == 3:
                    stacks[-1].append(slide)
                    _pose(slide, part, lesson, notes)
                elif slide.text and stacks[-1][-1].html:  # a stub or a figure is the end of its slide
                    stacks[-1].append(slide)
                elif slide.text:
                    stacks[-1][-1].text += "\n\n" + slide.text
        elif cell.cell_type == "code" and stacks and SETUP not in cell.source:
            posed = [slide for slide in stacks[-1] if "### Exercise" in slide.text]
            stacks[-1] += _code(cell, (posed or stacks[-1])[-1], stacks[-1][-1], notes)
    stacks = [_headed(stack) for stack in stacks]
    if stacks:
        stacks[0][0].notes = notes.opening()
        stacks[-1][0].notes = notes.closing()
    return stacks


def _headed(stack: list[Slide]) -> list[Slide]:
    """A slide that holds a heading only becomes a line above the next one."""
    first, *rest = stack
    if not rest or "\n" in first.text or first.html:
        return stack
    rest[0].text = f"*{first.text.lstrip('# ')}*\n\n{rest[0].text}"
    return rest


def pieces(source: str) -> list[tuple[int, str]]:
    """(level, Markdown) of each part that a heading opens; what stands before the first heading has level 9."""
    lines = source.splitlines()
    tops = [token for token in PARSER.parse(source) if token.type == "heading_open" and token.level == 0]
    starts = [(int(token.tag[1]), token.map[0]) for token in tops]
    if not starts or starts[0][1] > 0:
        starts.insert(0, (9, 0))
    ends = [start for _, start in starts[1:]] + [len(lines)]
    parts = [(level, "\n".join(lines[start:end]).strip()) for (level, start), end in zip(starts, ends, strict=True)]
    return [(level, part) for level, part in parts if part]


def kept(part: str) -> str:
    """What of a part goes on a slide."""
    lines, out, opening = part.splitlines(), [], True
    for token in PARSER.parse(part):
        if token.level or not token.map or token.type.endswith("_close"):
            continue
        text = "\n".join(lines[slice(*token.map)]).strip()
        if token.type == "paragraph_open":
            facts = text.startswith("*Difficulty")  # the line under an exercise's heading, before its text
            out += [text] if facts else _paragraph(text, opening)
            opening = opening and facts
        elif token.type in ("heading_open", "math_block", "bullet_list_open", "ordered_list_open"):
            out.append(text)
        elif token.type == "table_open" and len(text.splitlines()) <= LINES:
            out.append(text)
    return "\n\n".join(out)


def _paragraph(text: str, opening: bool) -> list[str]:
    """Its first sentences where it opens a part; of any paragraph the sentences that are bold, questions above all."""
    if re.match(r"<(/?details|summary)", text):
        return []
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z`$*(])", " ".join(text.split()))
    if any(each.count("**") % 2 for each in sentences):  # a bold part that spans sentences: leave it whole
        return [text]
    count, chosen = 0, []
    for place, each in enumerate(sentences):
        count += len(each.split())
        if (opening and (place == 0 or count <= WORDS)) or re.search(r"\*\*.*\?|^\*\*", each):
            chosen.append(each)
    return [" ".join(chosen)] if chosen else []


def _pose(slide: Slide, part: str, lesson: Lesson, notes: Notes) -> None:
    """An exercise: its minutes on the clock, and where people get stuck."""
    if found := re.match(r"### Exercise (\d+)", part):
        number = int(found[1])
        if 0 < number <= len(lesson.exercises):
            slide.seconds = 60 * lesson.exercises[number - 1].minutes
        slide.notes = notes.exercise(number)


def _code(cell, posed: Slide, last: Slide, notes: Notes) -> list[Slide]:
    """The stub of an exercise, and what is worked out, go under their text; a figure, or what is revealed, gets a slide
    of its own.
    """
    if cell.metadata.get("pfs", {}).get("exercise"):
        posed.html += block(cell.source)
        return []
    if "worked" in last.text and not last.html and cell.source.count("\n") <= LINES:
        last.html = block(cell.source)
        return []
    if QUIZ.search(cell.source):
        return []
    drawn = [output.data["text/html"] for output in cell.get("outputs", []) if "<img" in _html(output)]
    if REVEAL.search(cell.source):
        return [Slide("### Reveal", "".join(drawn) or _printed(cell), notes.asking())]
    return [Slide("", picture) for picture in drawn]


def _html(output) -> str:
    return output.get("data", {}).get("text/html", "")


def _printed(cell) -> str:
    from ..site.outputs import outputs_html

    shown = outputs_html(cell)
    return shown if shown.count("\n") <= LINES else ""
