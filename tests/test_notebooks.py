"""Every lesson's notebook keeps the limits, runs untouched with 0 points, and runs solved with all of them.

PFS_WRITE_RESULTS=1 also writes the seconds and the peak memory of the solved run to results/lessons/notebooks.json.
"""

import json
import os
import platform
from pathlib import Path

import pytest

from peft_from_scratch.check import lesson
from peft_from_scratch.check.notebooks import cell_of, check_cells, run_notebook, validate_notebook
from peft_from_scratch.course.routes import ROUTES
from peft_from_scratch.course.stamp import current

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
RESULTS = ROOT / "results" / "lessons" / "notebooks.json"
MODE = os.environ.get("PEFT_COURSE_MODE", "ci")  # a results run chooses cpu or gpu
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def tasks_of(path):
    return lesson(path.stem[:2]).exercises


def plural(number, word):
    return f"{number} {word}{'' if number == 1 else 's'}"


@each_notebook
def test_keeps_the_limits(path):
    assert validate_notebook(path) == []


@each_notebook
def test_says_what_each_exercise_asks_for(path):
    """Difficulty, minutes, points and tier above each exercise are those of its check."""
    cells = nbformat.read(path, as_version=4).cells
    for number, task in enumerate(tasks_of(path), 1):
        at = cell_of(nbformat.read(path, as_version=4), task)
        above = next(cell.source for cell in reversed(cells[:at]) if cell.cell_type == "markdown")
        points, minutes = plural(task.points, "point"), plural(task.minutes, "minute")
        assert f"### Exercise {number} · {task.title}\n" in above
        said = f"*Difficulty {task.difficulty} of 5 · {minutes} · {points} · {task.tier} · unlocks {task.unlocks}*"
        assert said in " ".join(above.split()), said


@each_notebook
def test_carries_the_address_in_one_form(path):
    """`OWNER/NAME[@REF]` on github.com, in the badge and in the set-up cell, so that one command can stamp both."""
    title, setup = nbformat.read(path, as_version=4).cells[:2]
    address = current(setup.source)
    assert address.badge(path.name) in title.source and f"https://github.com/{address.repo}" in title.source
    assert setup.source.endswith(address.install)


@each_notebook
def test_untouched_it_runs_and_scores_nothing(path):
    result = run_notebook(path)
    assert result.errors == ()
    assert result.points == 0
    checks = check_cells(nbformat.read(path, as_version=4))
    for at, name in checks.items():
        assert f"○ {name}: not written yet" in result.outputs[at].splitlines()  # a library may log before it
        assert "✗" not in result.outputs[at] and "✓" not in result.outputs[at]
    assert result.seconds < 60, "ci mode is for two busy cores: at most 30 s on free ones"


@each_notebook
def test_solved_it_scores_everything(path, tmp_path):
    """And all that it draws keeps the rules of tests/figure_rules.py, with words for those who do not see it."""
    watched = nbformat.read(path, as_version=4)
    drawn = tmp_path / "drawn.txt"
    watch = (
        f"import sys; sys.path.append({str(ROOT / 'tests')!r})\nimport figure_rules; figure_rules.watch({str(drawn)!r})"
    )
    watched.cells.insert(0, nbformat.v4.new_code_cell(watch))
    nbformat.write(watched, tmp_path / path.name)
    result = run_notebook(tmp_path / path.name, solved=True, mode=MODE, timeout=600, env={"PFS_STRICT": "1"})
    assert result.errors == ()
    assert result.points == result.max_points == sum(task.points for task in tasks_of(path))
    figures = drawn.read_text().splitlines()
    assert "drawn" in figures and set(figures) == {"drawn"}, sorted(set(figures))
    assert result.pictures and all(len(alt) > 30 for alt in result.pictures), "use show(fig, alt)"
    if os.environ.get("PFS_WRITE_RESULTS") == "1":
        record(path.stem, result)


def test_what_was_measured_keeps_the_limits():
    """On two cores: ten minutes a lesson, three a cell; fifteen minutes of runs in the workshop of three hours."""
    took = {name[:2]: modes["cpu"] for name, modes in json.loads(RESULTS.read_text()).items()}
    assert set(took) == {path.stem[:2] for path in NOTEBOOKS}
    assert all(each["seconds"] < 600 and each["slowest_cell"] < 180 for each in took.values())
    assert sum(took[id]["seconds"] for id in ROUTES["3h"]) < 15 * 60


def stripped(path):
    """The notebook as a tool leaves it that drops the metadata of cells."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.clear()
    return notebook


@each_notebook
def test_exercises_are_found_without_metadata(path):
    whole, bare = nbformat.read(path, as_version=4), stripped(path)
    for task in tasks_of(path):
        assert cell_of(bare, task) == cell_of(whole, task) is not None, task.name


def test_without_metadata_a_lesson_grades_the_same(tmp_path):
    nbformat.write(stripped(NOTEBOOKS[0]), tmp_path / NOTEBOOKS[0].name)
    result = run_notebook(tmp_path / NOTEBOOKS[0].name, solved=True, env={"PFS_STRICT": "1"})
    assert result.errors == ()
    assert result.points == result.max_points == sum(task.points for task in tasks_of(NOTEBOOKS[0]))


def record(name, result):
    """Put one notebook's figures beside those already there."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    found.setdefault(name, {})[MODE] = {
        "seconds": round(result.seconds, 1), "slowest_cell": round(result.slowest, 1),
        "peak_mb": round(result.peak_mb), "machine": machine,
    }  # fmt: skip
    beside = RESULTS.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
    os.replace(beside, RESULTS)
