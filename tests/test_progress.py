"""The progress log: two writers, corrupt lines, a file that cannot be written, points, reset, export, the table."""

import argparse
import json
import multiprocessing
from pathlib import Path

import numpy
import pytest
import torch

from peft_from_scratch.course import points, progress, show
from peft_from_scratch.course.progress import log_event, progress_path, read_events


@pytest.fixture(autouse=True)
def log(monkeypatch, tmp_path):
    monkeypatch.setenv("PFS_LESSONS", str(Path(__file__).parent / "lessons"))
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    progress._memory.clear()
    progress._told.clear()
    return tmp_path / "progress.jsonl"


def write_many(path, who, count):
    import os

    os.environ["PFS_PROGRESS"] = str(path)
    for number in range(count):
        log_event("check", who=who, number=number, text="x" * 500)


def some_events():
    log_event("check", lesson="00", exercise="a.one", status="unwritten", points=0, max_points=3)
    log_event("check", lesson="00", exercise="a.one", status="failed", points=1, max_points=3)
    log_event("hint", lesson="00", exercise="a.one", step=1)
    log_event("check", lesson="00", exercise="a.one", status="passed", points=3, max_points=3)
    log_event("check", lesson="01", exercise="b.one", status="failed", points=0, max_points=2)
    log_event("solution", lesson="01", exercise="b.one")
    log_event("quiz", quiz="00", question="q1", correct=False)
    log_event("quiz", quiz="00", question="q1", correct=True)
    log_event("quiz", quiz="00", question="q2", correct=True)


def test_events_come_back_in_order(log):
    log_event("hint", exercise="a", step=1)
    log_event("check", points=torch.tensor(2), share=numpy.float64(0.5), path=Path("x"))
    one, two = read_events()
    assert (one["kind"], one["step"], two["points"], two["share"], two["path"]) == ("hint", 1, 2, 0.5, "x")
    assert one["time"] <= two["time"] and len(log.read_text().splitlines()) == 2


def test_no_file_is_no_events():
    assert read_events() == [] and points.summary().points == 0


def test_two_processes_write_at_once(log):
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    workers = [context.Process(target=write_many, args=(log, who, 60)) for who in "ab"]
    for worker in workers:
        worker.start()
    for _ in range(20):
        read_events()
    for worker in workers:
        worker.join()
    for who in "ab":
        assert [event["number"] for event in read_events() if event["who"] == who] == list(range(60))
    assert not log.with_name("progress.corrupt.jsonl").exists()


def test_corrupt_lines_are_kept_aside(log, capsys):
    log_event("hint", step=1)
    with log.open("ab") as file:
        file.write(b'\xff\xfe broken\n[1, 2]\n{"no kind": 1}\n\n{"kind": "hi')
    log_event("hint", step=2)
    assert [event["step"] for event in read_events()] == [1, 2]
    aside = log.with_name("progress.corrupt.jsonl")
    assert aside.read_bytes() == b'\xff\xfe broken\n[1, 2]\n{"no kind": 1}\n{"kind": "hi\n'
    assert "4 unreadable line(s) of progress.jsonl were moved to progress.corrupt.jsonl" in capsys.readouterr().out
    read_events()
    assert capsys.readouterr().out == "" and len(log.read_text().splitlines()) == 2


def test_corrupt_lines_that_cannot_be_moved_hide_nothing(log, monkeypatch, capsys):
    log_event("hint", step=1)
    log.write_bytes(log.read_bytes() + b"broken\n")
    monkeypatch.setattr(progress, "_replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    assert [event["step"] for event in read_events()] == [1]
    assert "cannot be cleaned (denied); it is left as it is" in capsys.readouterr().out
    assert b"broken" in log.read_bytes()


def test_a_file_that_cannot_be_written_is_said_once(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "file" / "progress.jsonl"))
    log_event("hint", step=1)
    log_event("hint", step=2)
    out = capsys.readouterr().out
    assert out.count("Progress cannot be saved") == 1 and "set PFS_PROGRESS" in out
    assert [event["step"] for event in read_events()] == [1, 2]


def test_a_full_disk_loses_nothing(monkeypatch, capsys):
    log_event("hint", step=1)
    monkeypatch.setattr(progress, "_append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    log_event("hint", step=2)
    assert [event["step"] for event in read_events()] == [1, 2]
    assert "No space left on device" in capsys.readouterr().out


def test_where_the_log_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path))
    assert progress_path() == tmp_path / "progress.jsonl"
    monkeypatch.delenv("PFS_PROGRESS")
    monkeypatch.setattr(progress, "_DRIVE", tmp_path / "nowhere")
    monkeypatch.setattr(progress.sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert progress_path() == tmp_path / "data" / "peft_from_scratch" / "progress.jsonl"
    monkeypatch.setattr(progress.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert progress_path().parent.parent == tmp_path / "local"
    monkeypatch.setattr(progress.sys, "platform", "darwin")
    assert progress_path().parts[-4:-1] == ("Library", "Application Support", "peft_from_scratch")
    monkeypatch.setattr(progress, "_DRIVE", tmp_path)
    assert progress_path() == tmp_path / "peft_from_scratch" / "progress.jsonl"


def test_points(log):
    some_events()
    found = points.summary()
    one = found.exercises["a.one"]
    assert (one.first, one.best, one.tries, one.hints, one.solution, one.passed) == (1, 3, 2, 1, False, True)
    assert found.exercises["b.one"].solution and (found.points, found.max_points) == (3, 5)
    quiz = found.quizzes["00"]
    assert quiz.right == {"q1", "q2"} and quiz.right_first == {"q2"}


def test_reset_moves_the_old_log_aside(log):
    some_events()
    old = log.read_bytes()
    aside = points.reset("00")
    assert aside.read_bytes() == old and {event["lesson"] for event in read_events()} == {"01"}
    second = points.reset()
    assert read_events() == [] and second != aside and second.exists()


def test_export(log, tmp_path):
    with pytest.raises(FileNotFoundError, match="no progress yet"):
        points.export(tmp_path / "out.jsonl")
    some_events()
    assert json.loads(points.export(tmp_path / "out.jsonl").read_text().splitlines()[0])["kind"] == "check"
    with pytest.raises(FileExistsError, match="choose another name"):
        points.export(tmp_path / "out.jsonl")


def command(*words):
    parser = argparse.ArgumentParser()
    show.add_arguments(parser)
    return show.run(parser.parse_args(words))


def test_the_table(capsys, tmp_path):
    assert command() == 0 and "Nothing checked yet" in capsys.readouterr().out
    some_events()
    assert command() == 0
    out = capsys.readouterr().out
    assert "✓ a.one" in out and "3 of 3" in out and "seen" in out and "3 of 5 points" in out
    assert "Next: " in out
    assert "quiz 00: 2 right, 1 of them at the first try" in out
    assert command("--export", str(tmp_path / "out")) == 0 and command("--export", str(tmp_path / "out")) == 1
    assert command("--reset", "77") == 2 and command("--reset", "all") == 0 and read_events() == []
