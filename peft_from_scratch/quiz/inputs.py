"""The input of each kind of question, from widgets that ipywidgets 7.7.1 and 8.1 both have.

Labels of radio buttons and checkboxes show no maths and radio buttons ignore the arrow keys, so the
options stand in a list beside the controls, and the controls carry letters only.
"""

from collections.abc import Callable

import ipywidgets as widgets

from .listing import letter, options, strangers
from .model import Match, Multi, Numeric, Order, Output, Question, Self, Single
from .read import Unreadable
from .text import CODE, code_html, to_html

Input = tuple[widgets.Widget, Callable]  # what to show, and a function that reads the answer from it


def html(text: str) -> widgets.HTMLMath:
    """A piece of text with maths."""
    return widgets.HTMLMath(f'<div style="line-height: 1.5; max-width: 46em">{text}</div>')


def row(control: widgets.Widget, text: str) -> widgets.HBox:
    """A control and the text beside it."""
    return widgets.HBox([control, html(to_html(text))], layout={"align_items": "center"})


def input_for(question: Question) -> Input:
    """The controls of `question`."""
    return INPUTS[type(question)](question)


def _single(question: Single) -> Input:
    letters = [(letter(i), i) for i in range(len(question.choices))]
    buttons = widgets.ToggleButtons(options=letters, value=None, description="Answer:")
    buttons.style.button_width = "3.5em"
    return widgets.VBox([_list(question), buttons]), lambda: [] if buttons.value is None else buttons.value


def _multi(question: Multi) -> Input:
    boxes, rows = _ticks([choice.text for choice in question.choices])
    return rows, lambda: [i for i, box in enumerate(boxes) if box.value]


def _numeric(question: Numeric) -> Input:
    field = _text("a number")
    return row(field, question.unit), lambda: field.value


def _output(question: Output) -> Input:
    lines = len(question.accept[0].splitlines())
    field = _text("what it prints") if lines == 1 else widgets.Textarea(rows=lines, placeholder=f"{lines} lines")
    return widgets.VBox([html(code_html(question.code)), field]), lambda: field.value


def _order(question: Order) -> Input:
    field = _text("for example 3 1 2")
    return widgets.VBox([_list(question), html(strangers(question)), field]), lambda: field.value


def _match(question: Match) -> Input:
    letters = [("–", None)] + [(letter(i), i) for i in range(len(question.shown()))]
    drops = [widgets.Dropdown(options=letters, layout={"width": "5em"}) for _ in question.pairs]
    rows = [row(drop, pair.left) for drop, pair in zip(drops, question.pairs, strict=True)]
    return widgets.VBox([*rows, _list(question)]), lambda: [d.value for d in drops if d.value is not None]


def _self(question: Self) -> Input:
    field = widgets.Textarea(placeholder="a sentence or two", rows=3, layout={"width": "40em"})
    boxes, rows = _ticks(question.rubric)
    answer = html(f"<b>One good answer.</b> {to_html(question.model_answer)}<br>Tick what yours says:")
    reveal = widgets.Button(description="Compare")
    below = widgets.VBox([answer, rows], layout={"display": "none"})
    reveal.on_click(lambda _: setattr(below.layout, "display", None))

    def read() -> list[int]:
        if below.layout.display == "none":
            raise Unreadable("Write your answer, then press Compare.")
        return [i for i, box in enumerate(boxes) if box.value]

    return widgets.VBox([field, reveal, below]), read


def _text(placeholder: str) -> widgets.Text:
    return widgets.Text(placeholder=placeholder, description="Answer:")


def _ticks(texts: list[str]) -> tuple[list[widgets.Checkbox], widgets.VBox]:
    """One checkbox a row, its text beside it."""
    boxes = [widgets.Checkbox(description=f"({letter(i)})", indent=False) for i in range(len(texts))]
    for box in boxes:
        box.layout.width = "4em"
    return boxes, widgets.VBox([row(box, text) for box, text in zip(boxes, texts, strict=True)])


def _list(question: Question) -> widgets.HTMLMath:
    """The options with their marks; code lines keep their spaces."""
    code = f"{CODE} white-space: pre-wrap;" if getattr(question, "code", False) else ""
    cell = "text-align: left; vertical-align: top; padding: 0.1em 0.8em 0.1em 0;"
    rows = "".join(
        f'<tr><td style="{cell}">{mark}</td><td style="{cell}{code}">{to_html(text)}</td></tr>'
        for mark, text in options(question)
    )
    return html(f'<table style="border: 0; margin: 0.3em 0">{rows}</table>')


INPUTS = {
    Single: _single, Multi: _multi, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
