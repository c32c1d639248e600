"""jupyterquiz's JSON: choices and numbers as they are; what it lacks is asked as a text to type or a list to tick."""

import json

from ..arrange import Match, Order
from ..grade import right_answer
from ..listing import letter
from ..markup import code, dollars, escape, inline
from ..model import Multi, Numeric, Output, Question, Quiz, Self, Single


def to_jupyterquiz(quiz: Quiz) -> str:
    """The whole bank as the text of one JSON file. (It keeps no explanation: that goes into the right feedback.)"""
    made = [{"question": shown(q.prompt), **ASKED[type(q)](q)} for q in quiz.questions]
    return json.dumps(made, ensure_ascii=False, indent=1) + "\n"


def shown(text: str) -> str:
    """One paragraph after the other; jupyterquiz sets maths between dollar signs."""
    return "<br><br>".join(inline(" ".join(part.split()), dollars) for part in text.split("\n\n"))


def right(question: Question, feedback: str = "") -> str:
    """The feedback of a right answer, and the explanation."""
    return shown("\n\n".join(part for part in (feedback, question.explanation) if part))


def _choices(question: Single | Multi) -> dict:
    answers = [
        {
            "answer": shown(each.text),
            "correct": each.correct,
            "feedback": right(question, each.feedback) if each.correct else shown(each.feedback),
        }
        for each in question.choices
    ]
    return {"type": "many_choice" if len(question.key) > 1 else "multiple_choice", "answers": answers}


def _numeric(question: Numeric) -> dict:
    """A range there is closed below and open above, so the upper end of a right one is moved by a hair."""
    slack = max(question.tolerance.abs, question.tolerance.rel * abs(question.answer))
    key = (
        {"range": [question.answer - slack, question.answer + slack * (1 + 1e-9)]}
        if slack
        else {"value": question.answer}
    )
    answers = [key | {"correct": True, "feedback": right(question)}]
    for near in question.near:
        around = max(question.tolerance.rel, 0.005) * abs(near.value)
        ends = {"range": [near.value - around, near.value + around]} if around else {"value": near.value}
        answers.append(ends | {"correct": False, "feedback": shown(near.feedback)})
    return {"type": "numeric", "answers": [*answers, {"type": "default", "feedback": shown(question.otherwise)}]}


def _output(question: Output) -> dict:
    right_ones = [
        {"answer": " ".join(text.split()), "correct": True, "feedback": right(question)} for text in question.accept
    ]
    slips = [
        {"answer": " ".join(s.text.split()), "correct": False, "feedback": shown(s.feedback)} for s in question.near
    ]
    several = len(question.accept[0].splitlines()) > 1
    note = " (Write the printed lines one after the other, with a blank between them.)" if several else ""
    return {
        "question": shown(question.prompt) + note,
        "type": "string",
        "code": escape(question.code.rstrip()),
        "answers": right_ones + slips + [{"type": "default", "feedback": shown(question.otherwise)}],
    }


def _order(question: Order) -> dict:
    lines = "".join(f"<li>{_line(line.text, question.code)}</li>" for line in question.shown())
    return _typed(question, f"<ol>{lines}</ol>Write the numbers of the lines in order, for example 3 1 2.")


def _line(text: str, verbatim: bool) -> str:
    return code(text) if verbatim else inline(text, dollars)


def _match(question: Match) -> dict:
    lefts = "".join(f"<br>{i}. {inline(pair.left, dollars)}" for i, pair in enumerate(question.pairs, 1))
    rights = "".join(f"<br>({letter(i)}) {inline(text, dollars)}" for i, text in enumerate(question.shown()))
    return _typed(question, f"{lefts}<br>{rights}<br>Write pairs in order, for example 1b 2a.")


def _typed(question: Order | Match, below: str) -> dict:
    key = right_answer(question)
    return {
        "question": f"{shown(question.prompt)}<br>{below}",
        "type": "string",
        "answers": [
            {"answer": key, "correct": True, "feedback": right(question)},
            {"type": "default", "feedback": shown(question.hint)},
        ],
    }


def _self(question: Self) -> dict:
    """Nobody can mark an open question here: the learner writes, then ticks what the answer says."""
    answer = shown(f"**One good answer.** {question.model_answer}\n\n{question.explanation}")
    ticks = [{"answer": shown(point), "correct": True, "feedback": answer} for point in question.rubric]
    return {
        "question": shown(question.prompt) + "<br>Write your answer on paper, then tick what it says.",
        "type": "many_choice",
        "answers": ticks,
    }


ASKED = {
    Single: _choices, Multi: _choices, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
