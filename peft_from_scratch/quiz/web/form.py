"""A question as an HTML form, readable without its script; native controls, so that every key does what it should."""

from html import escape

from ..arrange import Match, Order
from ..listing import letter, strangers
from ..markup import code, focusable, inline, mathml, web
from ..model import Multi, Numeric, Output, Question, Quiz, Self, Single
from ..text import to_plain


def forms(quiz: Quiz, level: int = 2) -> str:
    """All questions of a quiz, each under a heading of this level."""
    count = len(quiz.questions)
    return "".join(form(question, f"Question {i} of {count}", level) for i, question in enumerate(quiz.questions, 1))


def form(question: Question, title: str, level: int) -> str:
    """One question; `quiz.js` finds it by its data-question."""
    name = question.id
    last = "Done" if isinstance(question, Self) else "Check"
    return (
        f'<form class="question" id="q-{name}" data-question="{name}" novalidate autocomplete="off" '
        f'aria-labelledby="h-{name}"><h{level} id="h-{name}">{title}</h{level}>'
        f"{web(question.prompt)}{CONTROLS[type(question)](question)}"
        f'<div class="buttons"><button class="check">{last}</button>'
        '<button type="button" class="hint">Hint</button>'
        '<button type="button" class="give-up" hidden>Show the answer</button>'
        '<button type="button" class="again" hidden>Answer again</button></div>'
        '<div class="feedback" role="status"></div></form>'
    )


def _option(kind: str, question: Question, place: int, text: str) -> str:
    field = f"{question.id}-{place}"
    mark = f"({letter(place)})"
    return (
        f'<div class="option"><input type="{kind}" id="{field}" name="{question.id}" value="{place}">'
        f'<label for="{field}"><span class="mark">{mark}</span> <span>{inline(text, mathml)}</span></label></div>'
    )


def _choices(question: Single | Multi) -> str:
    one = isinstance(question, Single)
    options = "".join(
        _option("radio" if one else "checkbox", question, i, choice.text) for i, choice in enumerate(question.choices)
    )
    legend = "Choose one" if one else "Choose all that are right"
    return f"<fieldset><legend>{legend}</legend>{options}</fieldset>"


def _numeric(question: Numeric) -> str:
    return _line(question, "A number", 'inputmode="decimal"', f" <span>{escape(question.unit)}</span>")


def _output(question: Output) -> str:
    lines = len(question.accept[0].splitlines())
    if lines == 1:
        return focusable(code(question.code)) + _line(question, "It prints", 'spellcheck="false"')
    field = f"{question.id}-0"
    return (
        f'{focusable(code(question.code))}<p><label for="{field}">It prints {lines} lines</label>'
        f'<textarea id="{field}" class="answer" rows="{lines}" spellcheck="false"></textarea></p>'
    )


def _line(question: Question, label: str, more: str, after: str = "") -> str:
    field = f"{question.id}-0"
    return f'<p><label for="{field}">{label}</label> <input class="answer" id="{field}" type="text" {more}>{after}</p>'


def _order(question: Order) -> str:
    """Press a line to append it to the answer; press it there to take it back."""
    kind = "line code" if question.code else "line"
    lines = "".join(
        f'<li><button type="button" class="{kind}" data-line="{i}">{_text(line.text, question)}</button></li>'
        for i, line in enumerate(question.shown())
    )
    note = strangers(question)
    return (
        f"<p>Press the lines in the order in which they belong. {note}</p>"
        f'<ol class="pool" aria-label="Lines to choose from">{lines}</ol>'
        '<p class="small">Your order (press a line to take it back):</p>'
        '<ol class="chosen" aria-label="Your order"></ol>'
    )


def _text(text: str, question: Order) -> str:
    return escape(text, quote=False) if question.code else inline(text, mathml)


def _match(question: Match) -> str:
    choices = "".join(f"<li>{inline(text, mathml)}</li>" for text in question.shown())
    menu = '<option value="">choose</option>' + "".join(
        f'<option value="{i}">({letter(i)}) {escape(to_plain(text), quote=False)}</option>'
        for i, text in enumerate(question.shown())
    )
    pairs = "".join(
        f'<div class="pair"><label for="{question.id}-{i}">{inline(pair.left, mathml)}</label>'
        f'<select id="{question.id}-{i}" aria-label="{escape(to_plain(pair.left))}">{menu}</select></div>'
        for i, pair in enumerate(question.pairs)
    )
    return f'<ol class="letters" type="a">{choices}</ol>{pairs}'


def _self(question: Self) -> str:
    points = "".join(_option("checkbox", question, i, point) for i, point in enumerate(question.rubric))
    field = f"{question.id}-text"
    return (
        f'<p><label for="{field}">Your answer, a sentence or two</label>'
        f'<textarea id="{field}" class="answer" rows="3"></textarea></p>'
        '<button type="button" class="compare">Compare</button>'
        f'<div class="model" hidden><p><b>One good answer.</b></p>{web(question.model_answer)}'
        f"<fieldset><legend>Tick what yours says</legend>{points}</fieldset></div>"
    )


CONTROLS = {
    Single: _choices, Multi: _choices, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
