"""A quiz as one file: styles, script and data inside, nothing asked of the network."""

import json
from collections.abc import Iterable
from html import escape
from pathlib import Path

from ..markup import inline, mathml
from ..model import Quiz
from .data import quiz_data
from .form import forms

HERE = Path(__file__).parent
KEYS = "Tab moves, the arrow keys choose, Space or Enter presses. A hint comes after two tries."


def quiz_page(quiz: Quiz) -> str:
    """One quiz on one page; a browser that allows it keeps the answers."""
    title = f"Quiz {quiz.quiz}: {quiz.title}"
    body = f"<h1>{inline(title, mathml)}</h1>{quiz_section(quiz)}"
    return page(title, body, quiz_script([quiz]))


def course_page(quizzes: list[Quiz]) -> str:
    """Practice over all quizzes: ten questions a round, what is due first, what was missed again."""
    title = "All quizzes: practice"
    return page(title, f"<h1>{title}</h1>{practice(quizzes)}", quiz_script(quizzes))


def quiz_section(quiz: Quiz, level: int = 2) -> str:
    """The questions of one quiz, with its score, for any page that also holds `quiz_script`."""
    return (
        f'<section class="quiz" data-quiz="{quiz.quiz}" aria-label="Quiz {quiz.quiz}"><p class="small">{KEYS}</p>'
        f'{forms(quiz, level)}<p class="score" role="status"></p>'
        '<p><button type="button" class="forget">Forget my answers here</button></p></section>'
    )


def practice(quizzes: list[Quiz]) -> str:
    """The controls of a round, and every question, hidden until its turn."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{quiz.quiz}" checked> {quiz.quiz} {escape(quiz.title)}</label>'
        for quiz in quizzes
    )
    questions = "".join(forms(quiz) for quiz in quizzes).replace(
        '<form class="question"', '<form class="question" hidden'
    )
    return (
        '<section class="practice" aria-label="Practice"><div class="overview">'
        "<p>A round is ten questions: those that are due, then new ones. A question that you answer right at the first "
        "try rests for 1, 3, 7, then 21 days; one that you miss comes again at the end of the round.</p>"
        f'<fieldset class="lessons"><legend>Lessons</legend>{boxes}</fieldset><p class="state" role="status"></p>'
        '<div class="buttons"><button type="button" class="start">Start a round</button>'
        '<button type="button" class="forget">Forget all answers</button></div></div>'
        f'<div class="running" hidden><p class="small">{KEYS}</p><p class="place small" role="status"></p>{questions}'
        '<div class="buttons"><button type="button" class="next">Skip</button>'
        '<button type="button" class="stop">End the round</button></div></div></section>'
    )


def quiz_script(quizzes: Iterable[Quiz]) -> str:
    """The data of these quizzes and the script that runs every quiz on the page."""
    data = json.dumps([quiz_data(quiz) for quiz in quizzes], ensure_ascii=False).replace("</", "<\\/")
    code = "\n".join(read(name) for name in ("grade.js", "boxes.js", "view.js", "quiz.js", "practice.js"))
    return f'<script type="application/json" id="quiz-data">{data}</script>\n<script>\n{code}\n</script>'


def styles() -> str:
    """The styles of a quiz page."""
    return read("base.css") + read("quiz.css")


def page(title: str, body: str, script: str) -> str:
    """A whole page around `body`."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title, quote=False)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{styles()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n<noscript><p>Without scripts this page shows the questions, and grades nothing.</p>"
        f"</noscript>\n</main>\n{script}\n</body>\n</html>\n"
    )


def read(name: str) -> str:
    """A file that stands beside this one."""
    return (HERE / name).read_text(encoding="utf-8")
