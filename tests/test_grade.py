"""Grading: the adversarial set in one run, what is reported, what survives being stopped, the same grade twice."""

import csv
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import adversaries
import pytest

from peft_from_scratch.check import lesson
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.grading.sandbox import find_sandbox

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="grading forks: Linux or macOS")
HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The demo lesson as the only one that is graded; returns the folder for submissions."""
    monkeypatch.setenv("PFS_LESSONS", str(HERE / "lessons"))
    monkeypatch.setenv("PFS_NOTEBOOKS", str(adversaries.pristine(tmp_path / "notebooks")))
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def put(path, answers):
    put_book(path, adversaries.notebook(answers))


def put_book(path, book):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book))


def grade(out, *arguments):
    options = ["--seed", "7", "--seconds", "1", "--memory", "512"]
    return main(["grade", *map(str, arguments), "--out", str(out), *options])


def rows(out, name="grades.csv"):
    with open(out / name, newline="") as file:
        return list(csv.DictReader(file))


def kinds():
    """Every sandbox that works here; none always does."""
    found = []
    for kind in ("bwrap", "unshare", "none"):
        works = find_sandbox(kind).kind == kind
        found.append(pytest.param(kind, marks=[] if works else pytest.mark.skip(reason=f"{kind} does not work here")))
    return found


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.slow
def test_every_submission_gets_what_it_deserves(demo, tmp_path, capsys):
    outside, out = tmp_path / "outside.txt", tmp_path / "graded"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        adversaries.write(demo, outside, listener.getsockname()[1])
        before = tree(demo), tree(tmp_path / "notebooks")
        assert grade(out, demo, "--workers", "2") == 0
        with pytest.raises(TimeoutError):
            listener.accept()
    first = {row["learner"]: row["status"] for row in rows(out, "exercises.csv") if row["exercise"] == "demo.forward"}
    found = {row["learner"]: (first.get(row["learner"], ""), int(row["points"])) for row in rows(out)}
    assert found == adversaries.EXPECTED
    every = {(row["learner"], row["exercise"]): row["status"] for row in rows(out, "exercises.csv")}
    assert every["imports-a-method", "demo.layer"] == "copied" and every["lying-list", "demo.steps"] == "tampered"
    assert every["equals-everything", "demo.number"] == "tampered"
    assert not outside.exists() and before == (tree(demo), tree(tmp_path / "notebooks"))
    assert {path.name for path in tmp_path.iterdir()} == {"inbox", "notebooks", "graded"}
    assert_reported(out)


def assert_reported(out):
    """Each learner has a page without a traceback; the class page lists faults, files that cannot be read, oddities."""
    pages = {path.name: path.read_text() for path in (out / "feedback").iterdir()}
    assert len(pages) == len(adversaries.EXPECTED)
    everything = (out / "class.html").read_text()
    for text in (*pages.values(), everything):
        assert "Traceback" not in text and not re.search("<(script|img|svg)", text)
    assert "the correction is scale · (x Aᵀ) Bᵀ" in pages["wrong_99.html"]
    assert "it is not JSON" in pages["not-json_x.html"]
    for said in ("it is not JSON", "found by its name", "which was refused", "spoke to the grader", "What went wrong"):
        assert said in everything


ESCAPE = """
import socket, sys
secret, outside, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
for do in (lambda: open(secret).read(), lambda: socket.create_connection(("127.0.0.1", port), timeout=1),
           lambda: open(outside, "w").write("gotcha")):
    try:
        do()
        print("done")
    except OSError:
        print("stopped")
"""


@pytest.mark.parametrize("kind", kinds())
def test_what_each_sandbox_stops_without_any_help_from_python(kind, tmp_path):
    sandbox, outside, secret = find_sandbox(kind), tmp_path / "outside.txt", tmp_path / "secret.txt"
    (tmp_path / "inbox").mkdir()
    secret.write_text("another learner's notebook")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        script = [sys.executable, "-c", ESCAPE, str(secret), str(outside), port]
        ran = subprocess.run([*sandbox.prefix(tmp_path / "inbox"), *script], capture_output=True, text=True, timeout=30)
    read, connected, _ = ran.stdout.split()
    assert (read, connected) == {"bwrap": ("stopped", "stopped"), "unshare": ("done", "stopped"),
                                 "none": ("done", "done")}[kind], ran.stderr  # fmt: skip
    assert outside.exists() == (kind != "bwrap")  # inside bubblewrap /tmp is another one
    assert ("NO SANDBOX" in sandbox.sentence) == (kind != "bwrap")


@pytest.mark.parametrize("kind", [each for each in kinds() if each.values[0] != "unshare"])
def test_the_same_grade_in_every_sandbox(kind, demo, tmp_path, capsys):
    put(demo / "ada.ipynb", adversaries.RIGHT)
    put(demo / "bob.ipynb", adversaries.BASE | {"demo.forward": adversaries.WRONG})
    assert grade(tmp_path / "out", demo, "--sandbox", kind) == 0
    assert [(row["learner"], row["points"]) for row in rows(tmp_path / "out")] == [("ada", "13"), ("bob", "3")]
    assert ("NO SANDBOX" in capsys.readouterr().err) == (kind != "bwrap")


@pytest.mark.slow
def test_every_lesson_can_be_graded(tmp_path, capsys):
    """Each notebook solved by its references scores everything, untouched nothing, in the rehearsed lesson."""
    for path in NOTEBOOKS:
        book = json.loads(path.read_text(encoding="utf-8"))
        put_book(tmp_path / "inbox" / f"{path.stem} untouched.ipynb", book)
        references = {task.name: task.reference for task in lesson(path.stem[:2]).exercises}
        for cell in book["cells"]:
            cell["source"] = references.get(cell["metadata"].get("pfs", {}).get("exercise"), cell["source"])
        put_book(tmp_path / "inbox" / f"{path.stem} solved.ipynb", book)
    assert main(["grade", str(tmp_path / "inbox"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert {row["notes"] for row in rows(tmp_path / "out", "exercises.csv")} == {""}
    wanted = {path.stem: str(sum(task.points for task in lesson(path.stem[:2]).exercises)) for path in NOTEBOOKS}
    found = {row["learner"]: (row["points"], row["max_points"], row["look_at"]) for row in rows(tmp_path / "out")}
    assert found == {f"{stem} solved": (most, most, "") for stem, most in wanted.items()} | {
        f"{stem} untouched": ("0", most, "") for stem, most in wanted.items()
    }


@pytest.mark.skipif(find_sandbox().kind != "bwrap", reason="as root, only bubblewrap limits processes")
def test_processes_are_limited_by_the_system_too(demo, tmp_path, capsys):
    """An answer that starts processes behind Python's back gets no more than the limit, and they are gone after it."""
    counting = adversaries.HIDDEN_FORK + "\nn = 12 if 0 < count <= 16 else 0"
    put(demo / "ada.ipynb", adversaries.STUBS | {"demo.number": counting})
    assert grade(tmp_path / "out", demo) == 0
    assert rows(tmp_path / "out")[0]["points"] == "1"


def test_the_same_grade_twice_and_the_same_verdict_for_another_seed(demo, tmp_path, capsys):
    put(demo / "ada.ipynb", adversaries.RIGHT)
    put(demo / "bob.ipynb", adversaries.BASE | {"demo.forward": adversaries.WRONG})
    records = []
    for out, seed in (("one", "autumn"), ("two", "autumn"), ("three", "spring")):
        assert main(["grade", str(demo), "--out", str(tmp_path / out), "--seed", seed, "--workers", "1"]) == 0
        records.append(sorted(path.read_text() for path in (tmp_path / out / "records").iterdir()))
    assert records[0] == records[1]
    assert rows(tmp_path / "one") == rows(tmp_path / "three")


def test_killed_in_the_middle_it_goes_on_and_gives_the_same_grades(demo, tmp_path, capsys):
    for number in range(6):
        answer = adversaries.FORWARD if number % 2 else adversaries.WRONG
        put(demo / f"learner{number}.ipynb", adversaries.BASE | {"demo.forward": f"# {number}\n{answer}"})
    command = [sys.executable, "-m", "peft_from_scratch", "course", "grade", str(demo), "--seed", "7", "--workers", "1"]
    out = tmp_path / "out"
    (tmp_path / "tmp").mkdir()  # what is killed cannot tidy up
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    inside = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen([*command, "--out", str(out)], env=inside, **streams) as batch:
        while len(list(out.glob("records/*.json"))) < 2:
            assert batch.poll() is None
            time.sleep(0.02)
        batch.send_signal(signal.SIGKILL)
    kept = len(list(out.glob("records/*.json")))
    assert 2 <= kept < 6 and not (out / "grades.csv").exists()
    assert main([*command[4:], "--out", str(out)]) == 0
    assert f"{kept} of 6 were graded before." in capsys.readouterr().out
    assert [int(row["points"]) for row in rows(out)] == [3, 5, 3, 5, 3, 5]


def test_a_full_disk_is_said_and_what_was_there_stays(demo, tmp_path, monkeypatch, capsys):
    put(demo / "ada.ipynb", adversaries.STUBS)
    assert grade(tmp_path / "out", demo) == 0
    before = tree(tmp_path / "out")

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("peft_from_scratch.course.grading.records.write", full)
    put(demo / "bob.ipynb", adversaries.STUBS)
    capsys.readouterr()
    assert grade(tmp_path / "out", demo) == 1
    assert "The disk is full" in capsys.readouterr().err and tree(tmp_path / "out") == before


def test_folders_of_learners_formulas_and_core_exercises_alone(demo, tmp_path, capsys):
    put(demo / "ada" / "99_demo.ipynb", {**adversaries.STUBS, "demo.steps": "order = [2, 1, 3]"})
    put(demo / "=SUM(A1)" / "99_demo.ipynb", adversaries.STUBS)
    put(demo / "ada" / ".ipynb_checkpoints" / "99_demo.ipynb", adversaries.RIGHT)
    (demo / "eve").mkdir()
    (demo / "eve" / "link.ipynb").symlink_to("/etc/passwd")
    assert grade(tmp_path / "out", demo, "--core") == 0
    assert [row["learner"] for row in rows(tmp_path / "out")] == ["'=SUM(A1)", "ada"]
    assert [(row["points"], row["max_points"]) for row in rows(tmp_path / "out")] == [("0", "10")] * 2
    assert (tmp_path / "out" / "feedback" / "=SUM(A1)_99.html").exists()


def test_one_sentence_where_nothing_can_be_graded(demo, tmp_path, capsys):
    def refuses(said, *arguments):
        assert grade(tmp_path / "out", *arguments) == 1
        assert said in capsys.readouterr().err

    refuses("no .ipynb file", demo)
    refuses("no file or folder", demo / "nobody.ipynb")
    put(demo / "ada.ipynb", adversaries.STUBS)
    refuses("no lesson '77'", demo, "--lesson", "77")
    blocked = tmp_path / "file"
    blocked.write_text("here before")
    assert grade(blocked, demo) == 1
    assert "file" in capsys.readouterr().err and blocked.read_text() == "here before"
