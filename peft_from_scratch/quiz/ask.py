"""Ask a quiz on stdin and stdout, one question after the other; piped input works too."""

from .listing import letter, listing
from .model import Match, Multi, Numeric, Order, Output, Question, Quiz, Self
from .read import Unreadable
from .session import Session
from .text import to_plain, wrap

HELP = "? hint · Enter alone: skip · q: leave (the score is kept)"


class Leave(Exception):
    """The learner wants to stop, or the input has ended."""


def play(quiz: Quiz) -> Session:
    """Ask every question of `quiz` on stdin and stdout; the end of the input is a clean end."""
    session, count = Session(quiz), len(quiz.questions)
    print(f"Quiz {quiz.quiz}: {quiz.title} ({count} questions)\n{HELP}")
    try:
        for number, question in enumerate(quiz.questions, 1):
            print("\n" + listing(question, f"[{number}/{count}] "))
            ask_self(session, question) if isinstance(question, Self) else ask(session, question)
    except (Leave, KeyboardInterrupt):
        print()
    print("\n" + session.score_line())
    for prompt in session.to_review():
        print(f"Look again at: {prompt}")
    return session


def say(text: str, first: str = "") -> None:
    """Print a piece of a quiz, its lines broken to fit."""
    print(wrap(first + to_plain(text)))


def read(prompt: str) -> str:
    """One line of input; q or the end of the input raises Leave."""
    try:
        line = input(prompt).strip()
    except EOFError:
        raise Leave from None
    if line.lower() in ("q", "quit", "exit"):
        raise Leave
    return line


def ask(session: Session, question: Question) -> None:
    """Ask until the question is right, skipped, or its answer shown."""
    while not session.sittings[question.id].over:
        line = _lines(question) if isinstance(question, Output) else read(how(question))
        if not line:
            print("Skipped.")
            return
        if line == "?":
            say(question.hint, "Hint: ")
            continue
        try:
            verdict = session.submit(question, line)
        except Unreadable as error:
            print(error)
            continue
        say(verdict.feedback, "✓ Right. " if verdict.correct else "✗ Not yet. ")
        _after(session, question, verdict.correct)


def _after(session: Session, question: Question, correct: bool) -> None:
    """What follows a try: the explanation, the hint, or the answer."""
    if session.answer_due(question):
        print(f"The answer: {session.show_answer(question)}")
    if correct or session.sittings[question.id].shown:
        say(question.explanation)
    elif session.hint_due(question):
        say(question.hint, "Hint: ")


def _lines(question: Output) -> str:
    """As many lines as the code prints."""
    expected = len(question.accept[0].splitlines())
    first = read("It prints: ")
    if first in ("", "?"):
        return first
    return "\n".join([first, *(read("           ") for _ in range(expected - 1))])


def how(question: Question) -> str:
    """The words before the cursor."""
    if isinstance(question, Numeric):
        return f"A number{' (' + question.unit + ')' if question.unit else ''}: "
    if isinstance(question, Multi):
        return "All that are right, for example a c: "
    if isinstance(question, Order):
        return "The numbers in order, for example 3 1 2: "
    return "For example 1b 2a: " if isinstance(question, Match) else "Your choice: "


def ask_self(session: Session, question: Self) -> None:
    """An open question: write, compare, tick."""
    if read("Write a sentence or two, then Enter: ") == "":
        print("Skipped.")
        return
    print()
    say(question.model_answer, "One good answer: ")
    print("Which of these does yours say?")
    for i, point in enumerate(question.rubric):
        print(f"  ({letter(i)}) {to_plain(point)}")
    while not session.sittings[question.id].over:
        try:
            verdict = session.submit(question, read("For example a c, or 0 for none: "))
            say(f"{verdict.feedback} {question.explanation}")
        except Unreadable as error:
            print(error)
