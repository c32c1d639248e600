"""Anki's text import: one card a question, tab-separated, with a header that Anki 2.1.54 and later reads.

The id of a question is the note's GUID, so that a later import updates cards instead of doubling them. A text file
needs no library, and a learner can read it.
"""

import csv
import io

from ..arrange import Match, Order
from ..grade import right_answer
from ..listing import letter
from ..markup import code, inline, mathjax, rich
from ..model import Multi, Numeric, Output, Question, Quiz, Self, Single

COLUMNS = ("guid", "notetype", "front", "back", "tags")


def to_anki(quiz: Quiz) -> str:
    """The whole bank as the text of one import file, for the deck `PEFT from scratch::NN title`."""
    out = io.StringIO()
    for line in (
        "#separator:tab", "#html:true", f"#deck:PEFT from scratch::{quiz.quiz} {quiz.title}",
        "#guid column:1", "#notetype column:2", "#tags column:5",
    ):  # fmt: skip
        out.write(line + "\n")
    rows = csv.writer(out, dialect="excel-tab", lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerows(
        (question.id, "Basic", front(question), back(question), " ".join(["peft", *question.tags]))
        for question in quiz.questions
    )
    return out.getvalue()


def front(question: Question) -> str:
    """The question and what there is to choose from."""
    parts = [rich(question.prompt, mathjax)]
    if isinstance(question, Output):
        parts.append(code(question.code))
    if isinstance(question, (Single, Multi)):
        parts.append(listed("ol", [choice.text for choice in question.choices], "a"))
    if isinstance(question, Order):
        parts.append(listed("ol", [line.text for line in question.shown()], "1", verbatim=question.code))
    if isinstance(question, Match):
        parts.append(listed("ol", [pair.left for pair in question.pairs], "1") + listed("ol", question.shown(), "a"))
    return "".join(parts)


def back(question: Question) -> str:
    """The answer and why."""
    return f"{_answer(question)}<hr>{rich(question.explanation, mathjax)}"


def _answer(question: Question) -> str:
    if isinstance(question, (Single, Multi)):
        right = [(letter(i), question.choices[i]) for i in question.key]
        return "".join(rich(f"**({mark}) {each.text}**\n\n{each.feedback}", mathjax) for mark, each in right)
    if isinstance(question, Order):
        return listed("ol", [line.text for line in question.lines], "1", verbatim=question.code)
    if isinstance(question, Match):
        return listed("ul", [f"{pair.left}: {pair.right}" for pair in question.pairs])
    if isinstance(question, Output):
        return code(question.accept[0])
    if isinstance(question, Self):
        return rich(question.model_answer, mathjax) + listed("ul", list(question.rubric))
    assert isinstance(question, Numeric)
    return f"<p><b>{right_answer(question)}</b></p>"


def listed(kind: str, items: list[str], marks: str = "", verbatim: bool = False) -> str:
    """A list; lines of code keep their spaces."""
    shown = [code(item) if verbatim else inline(item, mathjax) for item in items]
    inside = "".join(f"<li>{item}</li>" for item in shown)
    return f'<{kind} type="{marks}">{inside}</{kind}>' if marks else f"<{kind}>{inside}</{kind}>"
