"""The commands in one table, the doctor, and a learner's progress: page, export, import, statement."""

import collections
import errno
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from peft_from_scratch import __main__ as package
from peft_from_scratch.course import cli, log_event, read_events
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.doctor import examine as examination
from peft_from_scratch.course.doctor import machine, software
from peft_from_scratch.course.errors import CourseError, explain
from peft_from_scratch.course.points import summary
from peft_from_scratch.course.progress import progress_path


@pytest.fixture(autouse=True)
def own_log(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "log" / "progress.jsonl"))
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")


# the table of commands


@pytest.mark.parametrize("name", cli.available())
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and "example: peft-course " in said and len(said.splitlines()) > 4


def test_only_commands_that_are_there_are_listed(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "later", cli.Command("not_written_yet", "something", "later"))
    assert "later" not in cli.available() and "doctor" in cli.available()
    with pytest.raises(SystemExit) as left:
        main(["later"])
    assert left.value.code == 2 and "invalid choice" in capsys.readouterr().err


def test_the_package_command_leads_to_the_same_table(capsys):
    assert package.main(["course", "stamp", "--check"]) in (0, 1)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        package.main(["course", "--help"])
    assert "release" in capsys.readouterr().out


@pytest.mark.parametrize("error, said", [
    (CourseError("One sentence."), "One sentence."),
    (OSError(errno.ENOSPC, "No space left on device", "/x/grades.csv"), "disk is full: /x/grades.csv"),
    (OSError(errno.EACCES, "Permission denied", "/x"), "/x may not be read or written"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "There is no /x"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch is not installed. Run: pip install"),
    (FileExistsError(errno.EEXIST, "File exists", "/x"), "/x is a file, where a folder is wanted."),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), "/x is a folder, where a file is wanted."),
    (FileExistsError("/x exists; choose another name."), "/x exists; choose another name."),
    (OSError(errno.EIO, "Input/output error", "/x"), "Input/output error"),
])  # fmt: skip
def test_an_error_is_a_sentence_and_a_code(error, said, monkeypatch, capsys):
    def fail(args):
        raise error

    monkeypatch.setattr("peft_from_scratch.course.stamp.run", fail)
    assert main(["stamp"]) == 1
    told = capsys.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1 and "Traceback" not in told


@pytest.mark.parametrize("arguments, said", [
    (["doctor", "--bad"], "unrecognized arguments: --bad"), (["release"], "arguments are required: --out"),
    (["nonsense"], "invalid choice: 'nonsense'"), (["room", "--port", "abc"], "invalid int value: 'abc'"),
])  # fmt: skip
def test_what_was_typed_wrong_is_said_in_two_lines(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and said in lines[0] and lines[1].endswith(" --help") and len(lines) == 2


@pytest.mark.parametrize("command", [["quiz"], ["site", "--mode", "ci"], ["slides", "--mode", "ci"], ["release"]])
def test_a_file_where_a_folder_should_be_is_said_before_the_work(command, tmp_path, monkeypatch, capsys):
    from peft_from_scratch.course.site import execute

    monkeypatch.setattr(execute, "run_all", lambda *arguments: pytest.fail("it began to work"))
    blocked = tmp_path / "file"
    blocked.write_text("here before")
    assert main([*command, "--out", str(blocked)]) == 1
    assert "is a file, where a folder is wanted" in capsys.readouterr().err and blocked.read_text() == "here before"


def test_limits_of_nothing_are_refused(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text("{}")
    for option in ("--seconds", "--memory", "--workers"):
        assert main(["grade", str(tmp_path), "--out", str(tmp_path / "out"), option, "-1"]) == 1
        assert f"{option} must be more than 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interrupting_is_130(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("peft_from_scratch.course.stamp.run", interrupt)
    assert main(["stamp"]) == 130


def test_an_error_without_a_file_still_says_something():
    assert "a file" in explain(OSError(errno.ENOSPC, "No space left on device"))


# the doctor


def kinds(found):
    return {each.topic: each.kind for each in found}


def test_all_is_well_here(capsys):
    assert main(["doctor", "--no-hashes"]) == 0
    said = capsys.readouterr().out
    assert "✓ Python" in said and "Ready." in said and "00 Start here" in said


def test_without_the_model_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path / "cache"))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "✗ minilm: not fetched" in said and "python -m peft_from_scratch fetch minilm" in " ".join(said.split())
    assert "problems." in said


def test_a_damaged_model_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path))
    (tmp_path / "assets" / "spam").mkdir(parents=True)
    (tmp_path / "assets" / "spam" / "spam_collection.csv").write_text("changed")
    spam = next(each for each in machine.models() if each.topic == "spam")
    assert spam.kind == "problem" and "damaged" in spam.what


def test_without_jupyter_and_widgets(monkeypatch):
    monkeypatch.setattr(software, "find_spec", lambda name: None)
    assert software.jupyter().kind == "problem" and "pip install" in software.jupyter().remedy
    assert software.widgets().kind == "note"


@pytest.mark.parametrize("code, said", [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written")])
def test_a_disk_that_takes_nothing(code, said, monkeypatch):
    def fail(**options):
        raise OSError(code, "no")

    monkeypatch.setattr(machine.tempfile, "NamedTemporaryFile", fail)
    found = machine.folders()
    assert {each.kind for each in found} == {"problem"} and all(said in each.what for each in found)
    assert [each.remedy.split("Set ")[1].split()[0] for each in found] == ["PFS_CACHE", "PFS_PROGRESS", "TMPDIR"]


def test_too_little_room_for_the_models(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "free_disk", lambda folder: 10**6)
    cache = machine.folders()[0]
    assert cache.kind == "problem" and "1.0 MB are free" in cache.what and "Make room" in cache.remedy


def test_a_really_full_disk(tmp_path):
    """A file system of 64 kB, filled: needs the right to mount."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OSError), open(small / "fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        command = [sys.executable, "-m", "peft_from_scratch", "course", "doctor", "--no-hashes"]
        inside = {"PATH": "/usr/bin:/bin", "PFS_CACHE": str(small), "HOME": str(tmp_path)}
        ran = subprocess.run(command, env=inside, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert ran.returncode == 1 and "Traceback" not in ran.stderr, ran.stderr
    assert f"the disk with {small} is full. Make room there." in " ".join(ran.stdout.split())


@pytest.mark.parametrize("version, kind", [((3, 10, 1), "problem"), ((3, 13, 0), "ok"), ((3, 14, 0), "problem")])
def test_versions_of_python(version, kind, monkeypatch):
    info = collections.namedtuple("info", "major minor micro")(*version)
    monkeypatch.setattr(software, "sys", SimpleNamespace(version_info=info, modules={}))
    assert software.python().kind == kind


def test_a_library_that_is_missing_or_old(monkeypatch):
    def version(name):
        if name == "tqdm":
            raise software.importlib.metadata.PackageNotFoundError(name)
        return "0.1"

    wanted = ["tqdm>=4.66", "torch>=2.11", 'jupyterlab>=4; extra == "lab"']
    monkeypatch.setattr(software.importlib.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(software.importlib.metadata, "version", version)
    missing, old = software.libraries()
    assert "not installed" in missing.what and 'pip install "tqdm>=4.66"' in missing.remedy
    assert "is 0.1, but >=2.11 is needed" in old.what


def test_widgets_that_are_missing_are_said_once(monkeypatch):
    found = software.find_spec
    monkeypatch.setattr(software, "find_spec", lambda name: None if name == "ipywidgets" else found(name))
    monkeypatch.setattr(software.importlib.metadata, "requires", lambda name: ["ipywidgets>=99", "torch>=2.11"])
    assert [each.kind for each in software.libraries()] == ["ok"] and software.widgets().kind == "note"


BARE = """
import importlib.util, sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "numpy", "filelock", "packaging", "pydantic", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
sys.meta_path.insert(0, Nowhere())
from peft_from_scratch.__main__ import main
sys.exit(main(["course", "doctor"]))
"""


def test_on_a_bare_python_it_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "", done.stderr
    assert "✗ libraries: this folder is not installed in this Python." in done.stdout
    assert "run: make learn, or:" in " ".join(done.stdout.split()) and "Mend it, and run this again." in done.stdout


def test_a_log_that_cannot_be_written(monkeypatch):
    progress_path().parent.mkdir()
    progress_path().write_text("")
    assert kinds(machine.folders())["progress"] == "ok"

    def refuse(self, mode):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(machine.Path, "open", refuse)
    found = next(each for each in machine.folders() if each.topic == "progress")
    assert found.kind == "problem" and "progress.jsonl cannot be written (Permission denied)" in found.what


def test_little_memory_and_none_known(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (8 * 2**30, 2**29))
    assert machine.ram().kind == "problem"
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    assert machine.ram().kind == "note"


def test_each_problem_has_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path))
    monkeypatch.setattr(software, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for each in (software.python(), *software.libraries(), *examination.examine()):
        assert each.kind == "ok" or each.remedy, each


def test_a_mode_that_cannot_be(monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "fast")
    main(["doctor", "--no-hashes"])
    assert "✗ mode: PEFT_COURSE_MODE is 'fast'" in capsys.readouterr().out


# progress


def checked(exercise, status="passed", points=4, lesson="00"):
    log_event("check", lesson=lesson, exercise=exercise, status=status, points=points, max_points=4)


def test_the_page_without_and_with_progress(tmp_path, capsys):
    assert main(["progress"]) == 0
    assert "Nothing checked yet" in capsys.readouterr().out
    log_event("hint", lesson="00", exercise="lora.forward", level=1)
    checked("lora.forward", "failed", 1)
    checked("lora.forward")
    log_event("quiz", quiz="00_start_here", question="q1", correct=True)
    assert main(["progress", "--html", str(tmp_path / "me.html")]) == 0
    text = (tmp_path / "me.html").read_text()
    assert "4 of " in text and "LoRA in one line" in text and "Quiz 00_start_here: 1 right" in text
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert main(["progress", "--html", str(tmp_path / "me.html")]) == 0  # a page of today replaces yesterday's


def test_progress_goes_out_of_one_session_and_into_another(tmp_path, monkeypatch, capsys):
    checked("lora.forward", "failed", 1)
    assert main(["progress", "--export", str(tmp_path / "colab.jsonl")]) == 0
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "laptop" / "progress.jsonl"))
    checked("lora.count")
    assert main(["progress", "--import", str(tmp_path / "colab.jsonl")]) == 0
    assert main(["progress", "--import", str(tmp_path / "colab.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "1 of 1 events" in said and "0 of 1 events" in said
    assert [event["exercise"] for event in read_events()] == ["lora.forward", "lora.count"]
    assert summary().points == 5 and len(list((tmp_path / "laptop").glob("progress.2*.jsonl"))) == 2


@pytest.mark.parametrize("content, said", [
    (None, "There is no file"), (b"\x00\xff", "holds no progress"), (b'{"kind": 3}\n[1]\n', "holds no progress"),
])  # fmt: skip
def test_what_is_no_progress_changes_nothing(content, said, tmp_path, capsys):
    checked("lora.forward")
    before = progress_path().read_bytes()
    path = tmp_path / "theirs.jsonl"
    if content:
        path.write_bytes(content)
    assert main(["progress", "--import", str(path)]) == 1
    assert said in capsys.readouterr().err and progress_path().read_bytes() == before
    assert not content or path.read_bytes() == content


def test_unreadable_lines_are_counted(tmp_path, capsys):
    path = tmp_path / "theirs.jsonl"
    event = {"kind": "hint", "time": "2026-01-01T00:00:00+00:00", "exercise": "lora.forward"}
    path.write_text(json.dumps(event) + "\nbroken\n")
    assert main(["progress", "--import", str(path)]) == 0
    assert "1 lines could not be read" in capsys.readouterr().out


def test_a_statement_says_what_it_is_and_is_not(tmp_path, capsys):
    checked("lora.forward")
    to = str(tmp_path / "statement.html")
    assert main(["progress", "--statement", to]) == 1
    assert "--name" in capsys.readouterr().err
    assert main(["progress", "--statement", to, "--name", "Ada <b>"]) == 0
    text = (tmp_path / "statement.html").read_text()
    for said in ("Ada &lt;b&gt;", "1 of ", "It is no certificate", "What this is not", "No lesson is complete yet"):
        assert said in text
    assert main(["progress", "--statement", to, "--name", "Eve"]) == 1
    assert (tmp_path / "statement.html").read_text() == text


def test_a_lesson_is_complete_when_its_core_is(tmp_path):
    from peft_from_scratch.check import lesson
    from peft_from_scratch.course.progress_page import my_progress

    for task in lesson("00").exercises:
        if task.tier == "core":
            checked(task.name)
    assert main(["progress", "--statement", str(tmp_path / "s.html"), "--name", "Ada"]) == 0
    assert "all core exercises passed: lesson 00." in (tmp_path / "s.html").read_text()
    my_progress()


def test_the_page_in_a_notebook_is_one_frame(monkeypatch):
    import IPython
    import IPython.display

    from peft_from_scratch.course.progress_page import my_progress

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=1))
    monkeypatch.setattr(IPython.display, "display", shown.append)
    checked("lora.forward")
    my_progress()
    start, _, page = shown[0].data.partition("&lt;!doctype html&gt;")
    assert start == '<div><iframe title="Your progress" srcdoc="'
    assert page.split('"')[1:] == [" width=", "100%", " height=", "600", "></iframe></div>"]


def test_reset_keeps_the_old_log(capsys):
    checked("lora.forward")
    assert main(["progress", "--reset", "00"]) == 0
    assert summary().points == 0 and "the old log is" in capsys.readouterr().out
    assert main(["progress", "--reset", "77"]) == 2
