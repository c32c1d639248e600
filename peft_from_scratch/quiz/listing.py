"""A question, or a whole quiz, as plain text: for terminals, print-outs and readers without widgets."""

from .model import Match, Multi, Order, Output, Question, Quiz, Single
from .text import indent, to_plain, wrap


def letter(position: int) -> str:
    """0 is a, 1 is b."""
    return chr(ord("a") + position)


def options(question: Question) -> list[tuple[str, str]]:
    """Marks and texts as shown, for example [("(a)", "73,728"), ...]; empty for questions that one types."""
    if isinstance(question, (Single, Multi)):
        return [(f"({letter(i)})", choice.text) for i, choice in enumerate(question.choices)]
    if isinstance(question, Order):
        return [(f"{i}.", line.text) for i, line in enumerate(question.shown(), 1)]
    if isinstance(question, Match):
        return [(f"({letter(i)})", text) for i, text in enumerate(question.shown())]
    return []


def listing(question: Question, number: str = "") -> str:
    """Prompt, code and options, without any answer; `number` stands before the prompt."""
    lines = [wrap(to_plain(question.prompt), number)]
    if isinstance(question, Output):
        lines += ["", indent(question.code), ""]
    if isinstance(question, Match):
        lines += [f"  {i}. {to_plain(pair.left)}" for i, pair in enumerate(question.pairs, 1)]
    verbatim = isinstance(question, Order) and question.code
    for mark, text in options(question):
        lines.append(f"  {mark} {text}" if verbatim else wrap(to_plain(text), f"  {mark} ", " " * (len(mark) + 3)))
    return "\n".join([*lines, *(f"  ({note})" for note in [strangers(question)] if note)])


def strangers(question: Question) -> str:
    """How many of the lines to order do not belong; empty if all do."""
    count = len(question.distractors) if isinstance(question, Order) else 0
    return f"{count} of these {'does' if count == 1 else 'do'} not belong." if count else ""


def render_text(quiz: Quiz) -> str:
    """The whole quiz without answers, and how to answer it."""
    parts = [f"Quiz {quiz.quiz}: {quiz.title}"]
    parts += [listing(question, f"{number}. ").rstrip() for number, question in enumerate(quiz.questions, 1)]
    parts.append(f"Answer these in a terminal: python -m peft_from_scratch quiz {quiz.quiz}")
    return "\n\n".join(parts)
