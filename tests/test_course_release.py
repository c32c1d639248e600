"""Student copies, nbgrader's layout, and the stamp: what is written, what is left alone, what is refused."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import adversaries
import pytest

from peft_from_scratch.check import lesson
from peft_from_scratch.check.notebooks import run_notebook
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.stamp import Address, current, parse, stamped, stamped_readme

ROOT = Path(__file__).parent.parent
NBGRADER = os.environ.get("PFS_NBGRADER") or shutil.which("nbgrader")


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Only the demo lesson has a notebook here."""
    monkeypatch.setenv("PFS_LESSONS", str(Path(__file__).parent / "lessons"))
    folder = adversaries.pristine(tmp_path / "notebooks")
    monkeypatch.setattr("peft_from_scratch.course.lessons.PACKAGE", tmp_path / "no package")
    monkeypatch.setenv("PFS_NOTEBOOKS", str(folder))
    return tmp_path


def test_a_copy_carries_the_seed_and_every_exercise(demo, capsys):
    assert main(["release", "--out", str(demo / "class"), "--seed", "autumn"]) == 0
    book = demo / "class" / "99_demo.ipynb"
    setup = next(cell for cell in cells(book) if cell["cell_type"] == "code")
    assert source(setup).endswith('environ["PFS_SEED"] = "autumn"')
    assert [cell["metadata"]["pfs"]["exercise"] for cell in cells(book) if "pfs" in cell["metadata"]] == [
        task.name for task in lesson("99").exercises
    ]
    assert "--seed autumn" in capsys.readouterr().out


def test_core_copies_run_and_what_is_given_scores_nothing(demo):
    assert main(["release", "--out", str(demo / "class"), "--seed", "s", "--core"]) == 0
    text = (demo / "class" / "99_demo.ipynb").read_text()
    assert 'check(\\"demo.steps\\"' not in text and 'check(\\"demo.forward\\"' in text
    result = run_notebook(demo / "class" / "99_demo.ipynb")
    assert result.errors == () and result.points == 0 and result.max_points == 10
    assert main(["grade", str(demo / "class"), "--out", str(demo / "out"), "--workers", "1"]) == 0
    assert (demo / "out" / "grades.csv").read_text().splitlines()[1].startswith("class,99,0,13,")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_every_lesson_can_be_released_without_hints(path, tmp_path, monkeypatch):
    from peft_from_scratch.course.student import student_copy, text

    one = lesson(path.stem[:2])
    before = json.loads(path.read_text(encoding="utf-8"))
    kept = json.dumps(before)
    copy = student_copy(before, one, "s", core=True, hints=False)
    assert json.dumps(before) == kept
    words = "\n".join(text(cell) for cell in copy["cells"])
    assert "hint(" not in words and "solution(" not in words and "import calibration, check, predict" in words
    for task in one.exercises:
        assert (f'check("{task.name}"' in words) == (task.tier == "core")


def test_nothing_is_overwritten(demo, capsys):
    assert main(["release", "--out", str(demo / "class"), "--seed", "a"]) == 0
    before = (demo / "class" / "99_demo.ipynb").read_bytes()
    assert main(["release", "--out", str(demo / "class"), "--seed", "a"]) == 0
    assert main(["release", "--out", str(demo / "class"), "--seed", "b"]) == 1
    assert "choose a new folder" in capsys.readouterr().err
    assert (demo / "class" / "99_demo.ipynb").read_bytes() == before
    assert main(["release", "--out", str(demo / "class"), "--seed", 'x"; import os']) == 1
    assert main(["release", "--out", str(demo / "class"), "--core", "--all"]) == 1


def test_a_path_without_its_lessons_says_which(demo, capsys):
    assert main(["release", "--path", "3h", "--out", str(demo / "class")]) == 0
    assert "does not have: 00, 04, 06, 07" in capsys.readouterr().out


@pytest.mark.skipif(not NBGRADER, reason="nbgrader is not installed; name its program in PFS_NBGRADER")
def test_nbgrader_gives_the_same_points(demo, capsys):
    """generate_assignment and autograde, in nbgrader's own environment with this one's kernel."""
    course, kernel = demo / "course", demo / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    path = f"{Path(NBGRADER).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
    inside = os.environ | {
        "PATH": path,
        "JUPYTER_PATH": str(demo / "jupyter"),
        "PFS_PROGRESS": str(demo / "log.jsonl"),
        "HOME": str(demo),
    }

    def nbgrader(*words):
        ran = subprocess.run([NBGRADER, *words], cwd=course, env=inside, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]

    assert main(["release", "--out", str(course), "--seed", "0", "--nbgrader"]) == 0
    nbgrader("generate_assignment", "99_demo")
    released = course / "release" / "99_demo" / "99_demo.ipynb"
    assert "BEGIN SOLUTION" not in released.read_text() and "base.requires_grad_" not in released.read_text()
    wanted = {"right": adversaries.RIGHT, "untouched": {}, "half": {
        "demo.forward": adversaries.WRONG, "demo.count": adversaries.RIGHT["demo.count"]}}  # fmt: skip
    for learner, answers in wanted.items():
        book = json.loads(released.read_text())
        for cell in book["cells"]:
            name = cell["metadata"].get("pfs", {}).get("exercise")
            cell["source"] = answers.get(name, source(cell))
        place = course / "submitted" / learner / "99_demo"
        place.mkdir(parents=True)
        (place / "99_demo.ipynb").write_text(json.dumps(book))
    nbgrader("autograde", "99_demo")
    assert main(["grade", str(course / "submitted"), "--out", str(demo / "out"), "--seed", "0"]) == 0
    ours = dict(line.split(",")[0:3:2] for line in (demo / "out" / "grades.csv").read_text().splitlines()[1:])
    assert theirs(course / "gradebook.db") == {name: float(points) for name, points in ours.items()}
    assert ours == {"right": "13", "half": "3", "untouched": "0"}


def theirs(gradebook):
    """{learner: points} of nbgrader's data base."""
    with sqlite3.connect(gradebook) as db:
        rows = db.execute(
            "select a.student_id, sum(coalesce(g.manual_score, g.auto_score, 0)) from grade g "
            "join submitted_notebook n on g.notebook_id = n.id join submitted_assignment a on n.assignment_id = a.id "
            "group by a.student_id"
        ).fetchall()
    db.close()
    return dict(rows)


# the stamp

BOOK = (
    '"[![Open](https://x/badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/notebooks/00_a.ipynb)",'
    '"Source: [github.com/OWNER/NAME](https://github.com/OWNER/NAME). See https://github.com/OWNER/NAME2, '
    'https://github.com/other/OWNER.",\n"    %pip install -q git+https://github.com/OWNER/NAME\\n",'
    '"pip install git+https://github.com/huggingface/peft@v1"'
)


def test_a_stamp_reaches_every_place_and_nothing_else():
    once = stamped(BOOK, "00_a.ipynb", parse("ada/peft@v2.1"))
    assert "github/ada/peft/blob/v2.1/notebooks/00_a.ipynb" in once
    assert "[github.com/ada/peft](https://github.com/ada/peft)." in once
    assert "%pip install -q git+https://github.com/ada/peft@v2.1\\n" in once
    for other in ("github.com/OWNER/NAME2", "github.com/other/OWNER.", "huggingface/peft@v1"):
        assert other in once
    assert current(once) == Address("ada/peft", "v2.1")


def test_any_stamp_leads_to_any_other():
    there = stamped(stamped(BOOK, "00_a.ipynb", parse("ada/peft@feature/x")), "00_a.ipynb", parse("bob/fork.git-ish"))
    assert there == stamped(BOOK, "00_a.ipynb", parse("bob/fork.git-ish"))
    assert stamped(there, "00_a.ipynb", parse("OWNER/NAME")) == BOOK


def test_the_readme_gets_a_colab_link_beside_each_notebook():
    text = "| [Start](notebooks/00_a.ipynb) | 30 |\nmore: github.com/OWNER/NAME"
    once = stamped_readme(text, Address("OWNER/NAME"), parse("ada/p"))
    link = "https://colab.research.google.com/github/ada/p/blob/main/notebooks/00_a.ipynb"
    assert once == f"| [Start](notebooks/00_a.ipynb) · [Colab]({link}) | 30 |\nmore: github.com/ada/p"
    assert stamped_readme(once, Address("ada/p"), parse("ada/p")) == once


@pytest.mark.parametrize("typed", ["", "ada", "ada/", "/peft", "ada/peft@", "ada/peft/x", "a b/c", "ada/../x", "https://x/y",
                                   "ada/peft@a..b", "ada/peft@-x", "ada/peft.git", "a/b\n"])  # fmt: skip
def test_what_is_no_address_is_refused(typed, tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_a.ipynb").write_text(BOOK)
    if typed:
        assert main(["stamp", typed, "--root", str(tmp_path)]) == 1
        assert "OWNER/NAME" in capsys.readouterr().err
    assert (tmp_path / "notebooks" / "00_a.ipynb").read_text() == BOOK


def test_stamping_a_clone(tmp_path, capsys):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "README.md", tmp_path)
    assert main(["stamp", "ada/peft@v2", "--root", str(tmp_path)]) == 0
    for path in (tmp_path / "notebooks").glob("[0-9]*.ipynb"):
        assert "OWNER/NAME" not in path.read_text(encoding="utf-8")
        assert [source(cell) != "" for cell in cells(path)] == [True] * len(cells(ROOT / "notebooks" / path.name))
    assert main(["stamp", "--check", "--root", str(tmp_path)]) == 0
    (tmp_path / "notebooks" / "98_odd.ipynb").write_text(BOOK)
    assert main(["stamp", "--check", "--root", str(tmp_path)]) == 1
    assert main(["stamp", "ada/peft", "--root", str(tmp_path / "notebooks")]) == 1
    assert "top of a clone" in capsys.readouterr().err
