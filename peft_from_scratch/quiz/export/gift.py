"""Moodle's GIFT: questions parted by blank lines, so that none may stand inside one.

What GIFT lacks is put into words: an order becomes a matching of places and lines, an open question an essay whose
general feedback is the model answer. Numbers are graded absolutely there, so a relative tolerance is worked out here.
"""

import re

from ..arrange import Match, Order
from ..markup import code, mathjax, rich
from ..model import Multi, Numeric, Output, Question, Quiz, Self, Single
from ..text import to_plain

HARD_SPACE = "\u00a0"  # an indent that a menu of answers keeps


def to_gift(quiz: Quiz) -> str:
    """The whole bank as the text of one GIFT file."""
    head = f"// {quiz.title}\n$CATEGORY: $course$/peft_from_scratch/{quiz.quiz}\n"
    return "\n".join([head, *(question_gift(question) for question in quiz.questions)])


def question_gift(question: Question) -> str:
    """One question, without a blank line inside, with one after it."""
    tags = "".join(f" [tag:{tag}]" for tag in question.tags)
    text = shown(question.prompt)
    if isinstance(question, Output):
        text += escape(code(question.code)) + ("" if one_line(question) else escape(SEVERAL))
    if isinstance(question, Order) and question.distractors:
        text += escape("<p>Not every line belongs.</p>")
    answers = "\n".join([*ANSWERS[type(question)](question), f"####{general(question)}"])
    return f"// [id:{question.id}]{tags}\n::{question.id}::[html]{text}{{{answers}}}\n"


SEVERAL = "<p>Write the printed lines one after the other, with a blank between them.</p>"


def escape(text: str) -> str:
    """GIFT's own marks, a backslash before each; a line break as \\n."""
    return re.sub(r"([\\~=#{}:])", r"\\\1", text).replace("\n", r"\n")


def shown(text: str) -> str:
    """A prompt or feedback as escaped HTML."""
    return escape(rich(text, mathjax))


def plain(text: str) -> str:
    """For places where Moodle takes no HTML; "->" would start another matching answer there."""
    return escape(" ".join(to_plain(text).split()).replace("->", "→"))


def general(question: Question) -> str:
    """What everybody reads after answering."""
    if not isinstance(question, Self):
        return shown(question.explanation)
    points = "".join(f"\n- {point}" for point in question.rubric)
    answer = f"**One good answer.** {question.model_answer}\n\nDoes yours say this?{points}\n\n{question.explanation}"
    return shown(answer)


def one_line(question: Output) -> bool:
    """True if the code prints a single line."""
    return len(question.accept[0].splitlines()) == 1


def _single(question: Single) -> list[str]:
    return [f"{'=' if each.correct else '~'}{shown(each.text)}#{shown(each.feedback)}" for each in question.choices]


def _multi(question: Multi) -> list[str]:
    """A right choice is worth its share; a wrong one costs as much, as in the course's own grading."""
    share = f"{100 / len(question.key):.5f}".rstrip("0").rstrip(".")
    return [
        f"~%{'' if each.correct else '-'}{share}%{shown(each.text)}#{shown(each.feedback)}" for each in question.choices
    ]


def _numeric(question: Numeric) -> list[str]:
    slack = max(question.tolerance.abs, question.tolerance.rel * abs(question.answer))
    right = f"The value is {question.answer:,.10g} {question.unit}".strip() + "."
    lines = [f"#=%100%{number(question.answer)}:{number(slack)}#{shown(right)}"]
    for near in question.near:
        reach = max(question.tolerance.rel, 0.005) * abs(near.value)
        lines.append(f"=%0%{number(near.value)}:{number(reach)}#{shown(near.feedback)}")
    return [*lines, f"~#{shown(question.otherwise)}"]


def number(value: float) -> str:
    """Plain decimals: not every importer reads 1e-05."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _output(question: Output) -> list[str]:
    lines = [f"=%100%{_typed(text)}#" for text in question.accept]
    lines += [f"=%0%{_typed(slip.text)}#{shown(slip.feedback)}" for slip in question.near]
    return [*lines, f"=%0%*#{shown(question.otherwise)}"]


def _typed(text: str) -> str:
    """A printed text as one line; a star in it is a star, not "anything"."""
    return escape(" ".join(text.split()).replace("*", r"\*"))


def _order(question: Order) -> list[str]:
    lines = [f"={place}. -> {_line(line.text)}" for place, line in enumerate(question.lines, 1)]
    return lines + [f"= -> {_line(line.text)}" for line in question.distractors]


def _line(text: str) -> str:
    body = text.lstrip(" ")
    return HARD_SPACE * (len(text) - len(body)) + escape(body.replace("->", "→"))


def _match(question: Match) -> list[str]:
    pairs = [f"={plain(pair.left)} -> {plain(pair.right)}" for pair in question.pairs]
    return pairs + [f"= -> {plain(line.text)}" for line in question.extra]


def _self(question: Self) -> list[str]:
    return []


ANSWERS = {
    Single: _single, Multi: _multi, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
