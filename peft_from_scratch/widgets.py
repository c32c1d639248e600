"""A slider over a pure function that draws; where nothing can slide, the picture of one value.

ipywidgets is imported when a slider is made, not before: the package works without it.
"""

import html
import re
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from .plots import as_html, show
from .quiz.show import has_widgets

Draw = Callable[[object], tuple[Figure, str]]


def slider(draw: Draw, values: Sequence, start: object, label: str = "") -> None:
    """Show `draw(value)`, a figure and its sentence, with a slider over `values`.

    A page that is only read (no kernel, no ipywidgets, ci mode) shows the picture of `start`. ValueError where
    `start` is none of the values.
    """
    if start not in values:
        raise ValueError(f"the slider cannot start at {start!r}: its values are {list(values)}")
    if not has_widgets():
        show(*draw(start))
        return
    from IPython.display import display

    box, (fig, alt) = sliding(draw, values, start, label), draw(start)
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    # the picture rides along for readers without a kernel; a live page takes the widget
    page = {"application/vnd.jupyter.widget-view+json": view, "text/html": as_html(fig, alt), "text/plain": alt}
    display(page, raw=True)


def sliding(draw: Draw, values: Sequence, start: object, label: str):
    """The slider over its picture, as one ipywidgets box."""
    import ipywidgets

    choose = ipywidgets.SelectionSlider(options=list(values), value=start, description=label, continuous_update=False)
    page = ipywidgets.HTML(as_html(*draw(start)))
    choose.observe(lambda change: setattr(page, "value", as_html(*draw(change["new"]))), "value")
    return ipywidgets.VBox([choose, page])


RULES = {
    "the whole name": re.fullmatch,
    "any part of it": re.search,
    "its end": lambda pattern, name: name == pattern or name.endswith(f".{pattern}"),
}


def matching(names: list[str], pattern: str, rule: str) -> tuple[list[str], str]:
    """The names that `pattern` means by a rule of RULES, and a sentence on them."""
    try:
        hits = [name for name in names if RULES[rule](pattern, name)]
    except re.error as error:
        return [], f"{pattern} is no regular expression: {error}."
    said = f"{pattern} against {rule}: {len(hits)} of {len(names)} modules."
    return hits, said + (" For example: " + ", ".join(hits[:3]) + "." if hits else " An error is due here.")


def pattern_explorer(names: list[str], pattern: str) -> None:
    """Type a pattern, choose a rule, see which modules it means. Without ipywidgets: a line for each rule."""
    if not has_widgets():
        print(*(matching(names, pattern, rule)[1] for rule in RULES), sep="\n")
        return
    from IPython.display import display

    display(exploring(names, pattern))


def exploring(names: list[str], pattern: str):
    """The field, the rules and the list of names, as one ipywidgets box."""
    import ipywidgets

    text = ipywidgets.Text(pattern, description="pattern")
    rules = ipywidgets.ToggleButtons(options=list(RULES), description="matches")
    out = ipywidgets.HTML()

    def update(_=None) -> None:
        hits, said = matching(names, text.value, rules.value)
        out.value = f"<p>{html.escape(said)}</p><pre>{html.escape(chr(10).join(hits[:14]))}</pre>"

    text.observe(update, "value")
    rules.observe(update, "value")
    update()
    return ipywidgets.VBox([text, rules, out])
