"""Banks for the tests of pages and exports: one question of each type, full of what formats trip over."""

from peft_from_scratch.quiz.load import load_quiz, quiz_names
from peft_from_scratch.quiz.model import Quiz

COMMON = {
    "hint": "Hint: {a} ~ b = c # d",
    "explanation": "Because $\\alpha \\ne 0$.\n\nSee `x = {1: 2}`.",
    "tags": ["a-b", "c"],
}
CODE = "Look:\n\n```python\nd = {'a': 1}  # a ~ b\n\nif d['a'] -> 2:\n    print('\\n')\n```\n\nWhat now?"
NASTY = {
    "schema": 1,
    "quiz": "99",
    "title": "Tricky & <odd>: \"signs\"",
    "questions": [
        COMMON | {
            "id": "99-single", "type": "single", "prompt": CODE,
            "choices": [
                {"text": "50 % of $r < d$ = {x}", "feedback": "f ~ 1", "correct": True},
                {"text": "`a -> b` # or **c: d**", "feedback": "f\\2"},
            ],
        },
        COMMON | {
            "id": "99-multi", "type": "multi", "prompt": "Which, of <all>?",
            "choices": [
                {"text": "a", "feedback": "fa", "correct": True}, {"text": "b", "feedback": "fb"},
                {"text": "c", "feedback": "fc", "correct": True}, {"text": "d", "feedback": "fd", "correct": True},
            ],
        },
        COMMON | {
            "id": "99-numeric", "type": "numeric", "prompt": "$\\frac{\\alpha}{r}$?", "answer": -0.00025, "unit": "%",
            "verify": "-0.00025", "tolerance": {"rel": 0.02}, "otherwise": "o: {o}",
            "near": [{"value": 0.00025, "feedback": "sign = wrong"}],
        },
        COMMON | {
            "id": "99-output", "type": "output", "prompt": "**Predict** `it`.", "code": "print('a*b: {}')\n\nprint(2)",
            "accept": ["a*b: {}\n2", "a*b:{}\n2"], "near": [{"text": "a b\n2", "feedback": "f"}], "otherwise": "o",
        },
        COMMON | {
            "id": "99-order", "type": "order", "prompt": "Put in order.", "code": True, "verify": "True",
            "lines": [{"text": "for i in {1: 2}:", "feedback": "l1"}, {"text": "    x = i  # ~", "feedback": "l2"},
                      {"text": "y -> z", "feedback": "l3"}],
            "distractors": [{"text": "y = '#'", "feedback": "l4"}],
        },
        COMMON | {
            "id": "99-match", "type": "match", "prompt": "Which belongs to which?",
            "pairs": [{"left": "$\\sqrt{r}$", "right": "a = b", "feedback": "p1"},
                      {"left": "`B` -> `A`", "right": "c: {d}", "feedback": "p2"}],
            "extra": [{"text": "e ~ f", "feedback": "none"}],
        },
        COMMON | {
            "id": "99-self", "type": "self", "prompt": "Why?", "model_answer": "So: {that} = $x$.",
            "rubric": ["one # 1", "two"],
        },
    ],
}  # fmt: skip


def banks() -> list[Quiz]:
    """The made-up bank and every bank that ships."""
    return [Quiz.model_validate(NASTY), *(load_quiz(name) for name in quiz_names())]
