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
    return hits, said + (" For example: " + ", ".join(hits[:3]) + "." if hits else " That should be an error.")


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


def sliders(draw: Callable[..., tuple[Figure, str]], values: dict[str, Sequence], start: dict[str, object]) -> None:
    """Show `draw(**start)` with one slider for each name of `values`; where nothing can slide, the picture of `start`.

    ValueError where a slider cannot start where it is told to.
    """
    if wrong := [name for name in values if start.get(name) not in values[name]]:
        raise ValueError(f"{wrong[0]} cannot start at {start.get(wrong[0])!r}: its values are {list(values[wrong[0]])}")
    if not has_widgets():
        show(*draw(**start))
        return
    from IPython.display import display

    box, (fig, alt) = sliding_all(draw, values, start), draw(**start)
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    page = {"application/vnd.jupyter.widget-view+json": view, "text/html": as_html(fig, alt), "text/plain": alt}
    display(page, raw=True)


def sliding_all(draw: Callable[..., tuple[Figure, str]], values: dict[str, Sequence], start: dict[str, object]):
    """The sliders over their picture, as one ipywidgets box."""
    import ipywidgets

    choose = {name: ipywidgets.SelectionSlider(options=list(of), value=start[name], description=name,
                                               continuous_update=False) for name, of in values.items()}  # fmt: skip
    page = ipywidgets.HTML(as_html(*draw(**start)))

    def update(_: object) -> None:
        page.value = as_html(*draw(**{name: each.value for name, each in choose.items()}))

    for each in choose.values():
        each.observe(update, "value")
    return ipywidgets.VBox([*choose.values(), page])


def memory_at(kept: dict, model: str, batch: int, length: int) -> dict[str, dict[str, int]]:
    """From the counts of results/lessons/01_memory.json: {method: {part: bytes}} of a step at this batch and length."""
    table = kept["tables"][model]
    row, column = table["batches"].index(batch), table["lengths"].index(length)
    return {method: dict(zip(kept["parts"], rows[row][column], strict=True)) for method, rows in table["bytes"].items()}


def memory_explorer(kept: dict, model: str, batch: int, length: int) -> None:
    """The five parts of a step's memory as bars, with a slider for the batch and one for the length."""
    from .plots import step_memory

    table = kept["tables"][model]
    values = {"batch": table["batches"], "length": table["lengths"]}
    sliders(lambda **at: step_memory(memory_at(kept, model, **at)), values, {"batch": batch, "length": length})


def luck_of(difference) -> dict[str, float]:
    """Where a difference of two methods, a tensor (seeds, items), gets its luck from: variances of seeds, of items, and
    of what is left (two-way analysis of variance; less than nothing counts as nothing)."""
    d = difference.double()
    seeds, items = d.shape
    of_seed, of_item = d.mean(1), d.mean(0)
    rest = (d - of_seed[:, None] - of_item + d.mean()).square().sum().item() / ((seeds - 1) * (items - 1))
    found = {"seeds": of_seed.var().item() - rest / items, "items": of_item.var().item() - rest / seeds}
    return {name: max(0.0, value) for name, value in found.items()} | {"rest": rest}


def half_width(luck: dict[str, float], seeds: int, items: int) -> float:
    """Half of the 95 % interval that so many seeds and items would give, in the unit of the difference."""
    return 1.96 * (luck["seeds"] / seeds + luck["items"] / items + luck["rest"] / seeds / items) ** 0.5


def resolution_explorer(difference, margin: float = 1.0, seeds: int = 5, items: int = 1000) -> None:
    """What a comparison could decide with more seeds or items; `difference` in points, a tensor (seeds, items)."""
    from .plots import resolution

    luck, mean = luck_of(difference), difference.double().mean().item()
    values = {"seeds": [1, 2, 3, 5, 10, 20], "items": [100, 300, 1000, 3000, 5000, 10_000, 100_000]}
    draw = lambda seeds, items: resolution(mean, half_width(luck, seeds, items), margin, seeds, items)  # noqa: E731
    sliders(draw, values, {"seeds": seeds, "items": items})
