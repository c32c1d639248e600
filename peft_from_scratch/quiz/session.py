"""One sitting with one quiz: tries, hints, first-try score, and a line in the progress log for every try."""

import textwrap
from dataclasses import dataclass, field

from ..course.progress import log_event
from .grade import Verdict, answer, right_answer
from .model import Question, Quiz, Self
from .text import to_plain

HINT_AFTER, ANSWER_AFTER = 2, 3  # wrong tries until the hint comes by itself, until the answer may be shown


@dataclass
class Sitting:
    """The tries at one question."""

    tries: int = 0
    first: float | None = None  # the score of the first try
    solved: bool = False
    shown: bool = False  # the answer was shown, so the question no longer counts as solved

    @property
    def over(self) -> bool:
        """True once it is solved or its answer was shown."""
        return self.solved or self.shown


@dataclass
class Session:
    """A quiz and the sittings of its questions. `submit` and `show_answer` are all that a renderer needs."""

    quiz: Quiz
    sittings: dict[str, Sitting] = field(default_factory=dict)

    def __post_init__(self):
        self.sittings = {question.id: Sitting() for question in self.quiz.questions}

    def submit(self, question: Question, given) -> Verdict:
        """Grade a try, count it and log it; an answer that cannot be read raises Unreadable and does not count."""
        verdict, sitting = answer(question, given), self.sittings[question.id]
        if sitting.over:
            return verdict
        sitting.tries += 1
        sitting.first = verdict.score if sitting.first is None else sitting.first
        sitting.solved = verdict.correct or isinstance(question, Self)
        self._log(question, attempt=sitting.tries, score=round(verdict.score, 4), correct=verdict.correct)
        return verdict

    def hint_due(self, question: Question) -> bool:
        """True from the second wrong try on."""
        sitting = self.sittings[question.id]
        return not sitting.over and sitting.tries >= HINT_AFTER

    def answer_due(self, question: Question) -> bool:
        """True from the third wrong try on."""
        sitting = self.sittings[question.id]
        return not sitting.over and sitting.tries >= ANSWER_AFTER

    def show_answer(self, question: Question) -> str:
        """The key in words; from here on the question counts as seen, not as solved."""
        sitting = self.sittings[question.id]
        if not sitting.over:
            sitting.shown = True
            self._log(question, attempt=sitting.tries, score=0.0, correct=False, shown=True)
        return right_answer(question)

    def _log(self, question: Question, **fields) -> None:
        """The first try of a question is its earliest event."""
        log_event("quiz", quiz=self.quiz.quiz, question=question.id, type=question.type, **fields)

    def score_line(self) -> str:
        """For example `Solved 7 of 12, 5 at the first try.`"""
        graded = [self.sittings[q.id] for q in self.quiz.questions if not isinstance(q, Self)]
        solved, first = sum(s.solved for s in graded), sum(s.first == 1.0 for s in graded)
        passed = " Passed." if solved >= self.quiz.pass_mark * len(graded) else ""
        return f"Solved {solved} of {len(graded)}, {first} at the first try.{passed}"

    def to_review(self) -> list[str]:
        """The beginnings of the questions that were not right at the first try."""
        missed = [q for q in self.quiz.questions if self.sittings[q.id].first not in (None, 1.0)]
        return [textwrap.shorten(to_plain(q.prompt), 72, placeholder=" …") for q in missed if not isinstance(q, Self)]
