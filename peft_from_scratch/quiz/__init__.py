"""Quizzes: one YAML bank per lesson, graded the same way in a notebook, in a terminal and in plain text."""


def quiz(name: str) -> None:
    """Show the quiz of a lesson, for example `quiz("00")`: widgets in a notebook, plain text elsewhere."""
    from .show import show  # pydantic and ipywidgets load only here

    show(name)
