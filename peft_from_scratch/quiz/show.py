"""Choose how a quiz is shown: widgets in a live notebook, plain text everywhere else."""

from importlib.util import find_spec

from ..course.budget import budget
from .listing import render_text
from .load import load_quiz


def has_widgets() -> bool:
    """True in a Jupyter or Colab kernel with ipywidgets, unless the course runs in ci mode."""
    if find_spec("ipywidgets") is None or find_spec("IPython") is None or budget().mode == "ci":
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")  # IPython in a terminal has none


def show(name: str) -> None:
    """Show the quiz of a lesson here."""
    quiz = load_quiz(name)
    if not has_widgets():
        print(render_text(quiz))
        return
    from .widget import display_quiz

    display_quiz(quiz)
