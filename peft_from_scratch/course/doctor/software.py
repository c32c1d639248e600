"""Python, the libraries, Jupyter, widgets, and the sandbox of the grader."""

import importlib.metadata
import re
import shutil
import sys
from importlib.util import find_spec

from .finding import Finding

INSTALL = 'At the top of the clone run: make learn, or: pip install -c constraints.txt -e ".[lab]"'


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("ok", "Python", f"{version}.")
    return Finding("problem", "Python", f"{version} is not supported.", "Make an environment with Python 3.11 to 3.13.")


def libraries() -> list[Finding]:
    """The package's own requirements: each missing or too old one. (Widgets have a line of their own.)"""
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(line) for line in importlib.metadata.requires("peft-from-scratch") or []]
    except (ModuleNotFoundError, importlib.metadata.PackageNotFoundError):
        kind = "note" if find_spec("torch") else "problem"
        return [Finding(kind, "libraries", "this folder is not installed in this Python.", INSTALL)]
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    found = [_library(each) for each in needed if each.name != "ipywidgets" or find_spec("ipywidgets")]
    bad = [each for each in found if each]
    torch = importlib.metadata.version("torch") if not bad else ""
    return bad or [Finding("ok", "libraries", f"{len(found)} installed, torch {torch}.")]


def _library(wanted) -> Finding | None:
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding("problem", wanted.name, "is not installed.", f'Run: pip install "{wanted}"')
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return Finding("problem", wanted.name, f"is {version}, but {wanted.specifier} is needed.",
                   f'Run: pip install "{wanted}"')  # fmt: skip


def jupyter() -> Finding:
    if "google.colab" in sys.modules or find_spec("jupyterlab") and find_spec("ipykernel"):
        return Finding("ok", "Jupyter", "installed.")
    if find_spec("ipykernel"):
        return Finding("note", "Jupyter", "there is a kernel, but no JupyterLab.",
                       'VS Code needs no more; else run: pip install "jupyterlab>=4.4,<5"')  # fmt: skip
    return Finding("problem", "Jupyter", "is not installed.", 'Run: pip install "jupyterlab>=4.4,<5"')


def widgets() -> Finding:
    if not find_spec("ipywidgets"):
        return Finding("note", "widgets", "ipywidgets is not installed: sliders show one picture, quizzes are text.",
                       'Run: pip install "ipywidgets>=7.7,<9"')  # fmt: skip
    version = importlib.metadata.version("ipywidgets")
    if re.match("8", version) and not find_spec("jupyterlab_widgets") and find_spec("jupyterlab"):
        return Finding("note", "widgets", f"ipywidgets {version} without its part for JupyterLab.",
                       "Run: pip install jupyterlab_widgets")  # fmt: skip
    return Finding("ok", "widgets", f"ipywidgets {version}.")


def sandbox() -> Finding:
    if shutil.which("bwrap"):
        return Finding("ok", "grading", "bubblewrap is installed.")
    return Finding("note", "grading", "bubblewrap is not installed; only instructors need it, to grade in a sandbox.",
                   "On Debian or Ubuntu run: apt-get install bubblewrap")  # fmt: skip
