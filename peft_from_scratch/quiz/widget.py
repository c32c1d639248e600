"""The quiz in a notebook: one box a question, one button to check it, a score line."""

import ipywidgets as widgets

from .inputs import html, input_for
from .listing import render_text
from .model import Question, Quiz, Self
from .read import Unreadable
from .session import Session
from .text import to_html

# Jupyter's own theme colours, so light and dark both read; elsewhere the second one.
GOOD, BAD, NEUTRAL = "var(--jp-success-color1, #2e8b57)", "var(--jp-error-color1, #d9534f)", "#8888"
HELP = "Tab moves, Space or Enter presses. A hint comes after two tries; run this cell again to start anew."


class QuestionView:
    """One question: `box` to show, `read()` the answer, `button` to check it, `feedback` to look at."""

    def __init__(self, session: Session, question: Question, title: str, changed):
        self.session, self.question, self.changed = session, question, changed
        self.controls, self.read = input_for(question)
        self.button = widgets.Button(description="Done" if isinstance(question, Self) else "Check")
        self.give_up = widgets.Button(description="Show the answer", layout={"display": "none"})
        self.feedback = html("")
        self.button.on_click(self._check)
        self.give_up.on_click(self._show_answer)
        prompt = html(f"<b>{title}</b> {to_html(question.prompt)}")
        buttons = widgets.HBox([self.button, self.give_up])
        self.box = widgets.VBox([prompt, self.controls, buttons, self.feedback], layout={"margin": "0 0 1.5em 0"})

    def _check(self, _) -> None:
        try:
            verdict = self.session.submit(self.question, self.read())
        except Unreadable as error:
            self._say(NEUTRAL, to_html(str(error)))
            return
        done = self.session.sittings[self.question.id].solved
        mark = "✓ Right." if verdict.correct else "Noted." if done else "✗ Not yet."
        lines = [f"<b>{mark}</b> {to_html(verdict.feedback)}"]
        if done:
            lines.append(to_html(self.question.explanation))
        elif self.session.hint_due(self.question):
            lines.append(f"<b>Hint.</b> {to_html(self.question.hint)}")
        self._say(GOOD if done else BAD, "<br><br>".join(lines))
        self._refresh()

    def _show_answer(self, _) -> None:
        key = to_html(self.session.show_answer(self.question))
        self._say(NEUTRAL, f"<b>The answer:</b> {key}<br><br>{to_html(self.question.explanation)}")
        self._refresh()

    def _say(self, colour: str, text: str) -> None:
        self.feedback.value = (
            f'<div role="status" style="border-left: 4px solid {colour}; padding: 0.2em 0.8em; '
            f'line-height: 1.5; max-width: 46em">{text}</div>'
        )

    def _refresh(self) -> None:
        self.give_up.layout.display = None if self.session.answer_due(self.question) else "none"
        self.button.disabled = self.session.sittings[self.question.id].over
        self.changed()


class QuizView:
    """A whole quiz: `box` to show, `questions` by id, `score` below."""

    def __init__(self, quiz: Quiz):
        self.session, self.score = Session(quiz), html("")
        count = len(quiz.questions)
        self.questions = {
            question.id: QuestionView(self.session, question, f"{number}/{count}", self._refresh)
            for number, question in enumerate(quiz.questions, 1)
        }
        head = html(f"<h3 style='margin: 0'>Quiz {quiz.quiz}: {to_html(quiz.title)}</h3><small>{HELP}</small>")
        self.box = widgets.VBox([head, *(view.box for view in self.questions.values()), self.score])
        self._refresh()

    def _refresh(self) -> None:
        self.score.value = f"<b>{self.session.score_line()}</b>"


def display_quiz(quiz: Quiz) -> QuizView:
    """Show `quiz` in the running notebook; a saved notebook keeps the plain text beside the widgets."""
    from IPython.display import display

    view = QuizView(quiz)
    model = {"version_major": 2, "version_minor": 0, "model_id": view.box.model_id}
    display({"application/vnd.jupyter.widget-view+json": model, "text/plain": render_text(quiz)}, raw=True)
    return view
