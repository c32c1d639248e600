"""What the page's script must know to grade: the bank's answers and remarks, their marks already made HTML."""

from ..arrange import Match, Order
from ..grade import right_answer
from ..markup import inline, mathml, web
from ..model import Multi, Numeric, Output, Question, Quiz, Self, Single


def quiz_data(quiz: Quiz) -> dict:
    """One bank for `quiz.js`."""
    return {
        "quiz": quiz.quiz,
        "title": quiz.title,
        "pass_mark": quiz.pass_mark,
        "questions": [question_data(question) for question in quiz.questions],
    }


def question_data(question: Question) -> dict:
    """One question for `grade.js`."""
    common = {
        "id": question.id,
        "type": question.type,
        "hint": web(question.hint),
        "explanation": web(question.explanation),
        "key_in_words": web(right_answer(question)) if not isinstance(question, Output) else None,
    }
    return common | KEYS[type(question)](question)


def _choices(question: Single | Multi) -> dict:
    return {"key": question.key, "feedback": [web(each.feedback) for each in question.choices]}


def _numeric(question: Numeric) -> dict:
    slack = max(question.tolerance.abs, question.tolerance.rel * abs(question.answer))
    near = [
        {"value": n.value, "reach": max(question.tolerance.rel, 0.005) * abs(n.value), "feedback": web(n.feedback)}
        for n in question.near
    ]
    return {
        "answer": question.answer,
        "slack": slack + 1e-12 * abs(question.answer),
        "unit": question.unit,
        "near": near,
        "otherwise": web(question.otherwise),
    }


def _output(question: Output) -> dict:
    return {
        "accept": question.accept,
        "near": [{"text": slip.text, "feedback": web(slip.feedback)} for slip in question.near],
        "otherwise": web(question.otherwise),
    }


def _order(question: Order) -> dict:
    return {"key": question.key, "feedback": [web(line.feedback) for line in question.shown()]}


def _match(question: Match) -> dict:
    strangers = {line.text: web(line.feedback) for line in question.extra}
    return {
        "key": question.key,
        "left": [inline(pair.left, mathml) for pair in question.pairs],
        "feedback": [web(pair.feedback) for pair in question.pairs],
        "strangers": [strangers.get(text, "") for text in question.shown()],
    }


def _self(question: Self) -> dict:
    return {"rubric": len(question.rubric)}


KEYS = {
    Single: _choices, Multi: _choices, Numeric: _numeric, Output: _output, Order: _order, Match: _match, Self: _self,
}  # fmt: skip
