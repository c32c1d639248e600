"""What happened in the notebook: which names the cells tried to define, whether they failed, what check() handed out.

The hooks are IPython's `pre_run_cell` and `post_run_cell` (7.34 to 9); in plain Python there are none, and none needed.
"""

import re
import sys

from .words import short

# a definition at the left margin, or after a semicolon; by pattern, so that a cell with a syntax error is read too
# (`x = check(...)` is none)
_DEFINES = re.compile(
    r"^(?:async +)?(?:def|class) +(\w+)|(?:^|; *)(\w[\w ,]*?)(?: *:[^=\n]*)?=(?!=)(?! *[\w.]*check\()", re.MULTILINE
)

failures: dict[str, str] = {}  # name -> "NameError: ...": the last cell that tried to define it stopped
handed_out: dict[str, tuple[object, object]] = {}  # name -> (the reference check() returned, the learner's own)
_before: dict[str, object] = {}
_watched: list = []


def defined_names(source: str) -> set[str]:
    """The names a cell defines outside of any block, even where it does not parse."""
    found = re.findall(r"\w+", " ".join(" ".join(match) for match in _DEFINES.findall(source)))
    return set(found)


def caller_namespace() -> dict:
    """The globals of the first frame outside this package: those of the notebook."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in (
        "peft_from_scratch",
        "jaxtyping",
        "beartype",
    ):
        frame = frame.f_back
    return frame.f_globals


def watch() -> None:
    """Install the hooks, once for each IPython shell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and shell not in _watched:
        _watched.append(shell)
        shell.events.register("pre_run_cell", _before_cell)
        shell.events.register("post_run_cell", _after_cell)


def keep(names: tuple[str, ...], references: tuple, owns: tuple) -> None:
    """Remember what was handed out, so that running a check cell twice does not grade the reference."""
    for name, reference, own in zip(names, references, owns, strict=True):
        handed_out[name] = (reference, own)


def forget(*names: str) -> None:
    for name in names:
        failures.pop(name, None)
        handed_out.pop(name, None)


def _before_cell(info) -> None:
    _before.clear()
    space = _watched[-1].user_ns
    for name in defined_names(info.raw_cell or ""):
        _before[name] = space.get(name)
        handed_out.pop(name, None)  # the learner writes it anew


def _after_cell(result) -> None:
    error = result.error_before_exec or result.error_in_exec
    space = _watched[-1].user_ns
    for name in defined_names(result.info.raw_cell or ""):
        failures.pop(name, None)
        # a cell may fail after it has defined the name: then the new one counts
        if error and space.get(name) is _before.get(name):
            failures[name] = short(error)
    _before.clear()
