"""The parts of the grader, each on its own: reading, picking, trust, limits, likeness, names and pages."""

import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
import types

import pytest
import torch

from peft_from_scratch.check import exercise, lesson, lessons
from peft_from_scratch.course.grading import guards, liars, records, trust
from peft_from_scratch.course.grading.alike import fingerprints
from peft_from_scratch.course.grading.children import in_child
from peft_from_scratch.course.grading.classpage import class_page
from peft_from_scratch.course.grading.feedback import feedback
from peft_from_scratch.course.grading.picking import pick, which_lesson
from peft_from_scratch.course.grading.reading import Cell, Unreadable, read_cells
from peft_from_scratch.course.grading.rehearsal import plain
from peft_from_scratch.course.grading.similar import alike

FORWARD = exercise("lora.forward")
STUB = "def lora_forward(x, W, b, A, B, scale):\n    ..."
MINE = "def lora_forward(x, W, b, A, B, scale):\n    return x"
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: Linux or macOS")


# reading


def test_a_notebook_is_read_whatever_its_cells_look_like(tmp_path):
    path = tmp_path / "n.ipynb"
    cells = [{"cell_type": "code", "source": ["a = 1\n", "b = 2"], "metadata": {"pfs": {"exercise": "x"}}}, 3, None, {},
             {"cell_type": "markdown", "source": "c"}, {"cell_type": "code", "source": 7, "metadata": [1]},
             {"cell_type": "code", "metadata": {"pfs": {"exercise": ["x"]}}}]  # fmt: skip
    path.write_text(json.dumps({"cells": cells}))
    assert read_cells(path) == ([Cell("a = 1\nb = 2", "x"), Cell("7"), Cell("")], [])


def test_a_file_that_is_too_large_is_not_even_copied(tmp_path):
    with open(tmp_path / "sparse.ipynb", "wb") as file:
        file.truncate(10 * 2**30)
    submission = records.Submission(tmp_path / "sparse.ipynb", "ada")
    assert records.too_large(submission.path) and len(records.key(submission, {})) == 24
    assert not records.too_large(tmp_path / "nothing")


@pytest.mark.parametrize(
    "data", [b"", b"  ", b"{", b"[]", b"1", b'"x"', b"{}", b'{"cells": 1}', b"\xff\xfe", b"[" * 10**5]
)
def test_what_is_no_notebook_is_said(data, tmp_path):
    (tmp_path / "n.ipynb").write_bytes(data)
    with pytest.raises(Unreadable):
        read_cells(tmp_path / "n.ipynb")


# picking


def chosen(*cells):
    answer = pick(FORWARD, STUB, list(cells), {"import torch"})
    return answer.source, len(answer.notes)


def test_which_cell_answers():
    marked, named = Cell(MINE, "lora.forward"), Cell(MINE + "  # named")
    stub = Cell(STUB, "lora.forward")
    assert chosen() == (None, 1)
    assert chosen(stub) == (STUB, 0)
    assert chosen(marked, stub) == (MINE, 0)
    assert chosen(stub, named) == (named.source, 1)  # written below its own cell
    assert chosen(named, marked) == (MINE, 1)
    assert chosen(Cell("def other(): pass", "lora.forward"), named) == (named.source, 2)
    assert chosen(Cell("def other(): pass", "lora.forward")) == ("def other(): pass", 0)
    assert chosen(Cell('lora_forward = check("lora.forward", "lora_forward")')) == (None, 1)
    assert chosen(marked, dataclasses.replace(marked)) == (MINE, 0)


def test_which_lesson_it_is():
    assert which_lesson([Cell(MINE, "lora.forward")], lessons()).id == "00"
    assert which_lesson([Cell('x = check("lora.merge", "merge_layer, merge_error")')], lessons()).id == "04"
    assert (
        which_lesson([Cell("def lora_count(a): pass\ndef lora_forward(x): pass\nbreak_even = 1")], lessons()).id == "00"
    )
    assert which_lesson([Cell("print(1)")], lessons()) is None


def test_ipython_syntax_is_passed_over():
    assert plain("if x:\n    %pip install y\n!ls\nz = 5 % 3") == "if x:\n    pass\npass\nz = 5 % 3"


# trust


def test_a_canary_that_sings():
    """A known-wrong answer that a broken judge accepts is named; a sound judge accepts none."""
    names = {"torch": torch, "__builtins__": __builtins__}
    assert trust.canary(FORWARD, names, 7, 5.0) is None
    fooled = dataclasses.replace(
        FORWARD, properties=tuple(dataclasses.replace(p, test=lambda a, rng: None) for p in FORWARD.properties)
    )
    assert trust.canary(fooled, names, 7, 5.0) in {wrong.name for wrong in FORWARD.wrong}


def test_the_private_copy_is_out_of_reach():
    copy = trust.private(FORWARD)
    assert copy is not FORWARD and copy.properties[0] is not FORWARD.properties[0]
    assert [p.test for p in copy.properties] == [p.test for p in FORWARD.properties] and copy.wrong == FORWARD.wrong


@pytest.mark.parametrize("owner, name", [(torch, "allclose"), (torch.Tensor, "max"), (torch.nn.functional, "linear")])
def test_what_is_replaced_is_noticed_and_put_back(owner, name):
    before, recorded = getattr(owner, name), guards.record([])
    assert guards.changes(recorded) == []
    setattr(owner, name, lambda *a, **k: True)
    assert [each.rpartition(".")[2] for each in guards.restore(guards.changes(recorded))] == [name]
    assert getattr(owner, name) == before and guards.changes(recorded) == []


def test_new_names_that_hide_old_ones_and_new_code_are_noticed():
    def test(answer, rng):
        raise AssertionError

    from peft_from_scratch.check import tools

    recorded, code = guards.record([test]), test.__code__
    tools.float, tools.a_new_name = lambda x: 0.0, 1
    test.__code__ = (lambda answer, rng: None).__code__
    try:
        assert [name.rpartition(".")[2] for name in guards.restore(guards.changes(recorded))] == ["float", "test"]
        assert not hasattr(tools, "float") and test.__code__ is code
    finally:
        del tools.a_new_name


def test_values_that_could_lie():
    class Yes(list):
        def __eq__(self, other):
            return True

    Point = types.SimpleNamespace
    before = liars.classes() - {Yes}
    assert liars.new_liars(before) == ["Yes"]
    assert not liars.is_plain(Yes()) and not liars.is_plain([1, (2, Yes())]) and not liars.is_plain({"a": Yes()})
    for fine in (
        1,
        2.0,
        "x",
        None,
        [1, ("a", 2)],
        {"a": torch.ones(1)},
        torch.nn.Parameter(torch.ones(1)),
        len,
        Point(),
    ):
        assert liars.is_plain(fine), fine


LEFT_ON = """
import threading, torch
from peft_from_scratch.course.grading import guards, liars, trust
recorded, classes, over = guards.record([]), liars.classes(), threading.Event()
print(trust.fault(recorded, classes))
thread = threading.Thread(target=over.wait)
thread.start()
print(trust.fault(recorded, classes))
over.set(), thread.join()
with torch.device("cpu"):
    print(trust.fault(recorded, classes))
"""


def test_threads_and_modes_that_are_left_on():
    """In a process of its own: Python counts the threads that other tests started, even behind a fork."""
    done = subprocess.run([sys.executable, "-c", LEFT_ON], capture_output=True, text=True, check=True)
    nothing, thread, mode = done.stdout.splitlines()
    assert nothing == "None" and "thread" in thread and "mode" in mode


# children


@forks
@pytest.mark.parametrize("work, reply, why", [
    (lambda: {"a": 1}, {"a": 1}, ""),
    (lambda: os._exit(0), None, "died"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), None, "died"),
    (lambda: 1 / 0, None, "died"),
    (lambda: signal.pause(), None, "time"),
])  # fmt: skip
def test_a_child_that_answers_dies_or_hangs(work, reply, why):
    outcome = in_child(work, lambda keep: None, seconds=0.3)
    assert (outcome.reply, outcome.why) == (reply, why)


@forks
def test_a_child_that_speaks_without_the_token():
    kept = []
    outcome = in_child(lambda: os.write(kept[0][0], b"0" * 40 + b"{}") and os._exit(0), kept.append, 2)
    assert (outcome.reply, outcome.why) == (None, "forged")


@forks
def test_the_token_is_given_to_nobody_else(monkeypatch):
    token = "5e" * 16
    monkeypatch.setattr(secrets, "token_hex", lambda size: token)

    def asks():
        box, frame, seen = [], sys._getframe(), []
        sys.audit("pfs.token", box)
        while frame:
            seen += [str(value) for value in frame.f_locals.values() if isinstance(value, (bytes, list))]
            frame = frame.f_back
        return {"box": box, "seen": sum(token in each for each in seen)}

    assert in_child(asks, lambda keep: None, 5).reply == {"box": [], "seen": 0}


# likeness, names, pages


def test_fingerprints_see_through_names_but_not_through_work():
    one = "def f(x, y):\n    total = x @ y.T\n    return total * 2 + x.sum() - y.mean()"
    renamed = one.replace("total", "t").replace("x", "a")
    assert fingerprints(one)[1] == fingerprints(renamed)[1] and fingerprints(one)[0] != fingerprints(renamed)[0]
    assert fingerprints(one)[1] != fingerprints(one.replace("*", "/"))[1]
    assert fingerprints(one) == fingerprints(one + "  \n")
    assert fingerprints("n = 1") is None and fingerprints("def f(:") is None and fingerprints("-" * 10**5 + "1") is None


def test_only_unusual_forms_that_few_share_are_alike():
    def record(*forms):
        return {"marks": {f"e{n}": {"alike": [f"{n}{form}", f"{n}{form}"]} for n, form in enumerate(forms)}}

    learners = {name: record("usual", "usual", "usual") for name in "abcdefg"}
    learners |= {
        "y": record("odd", "odd", "usual"),
        "z": record("odd", "odd", "usual"),
        "x": record("odd", "own", "own"),
    }
    assert alike(learners) == [("y", "z", 2, 2)]
    assert alike({"y": learners["y"], "z": learners["z"]}) == []


@pytest.mark.parametrize("name, safe", [
    ("ada", "ada"), ("../../etc/passwd", "_.._etc_passwd"), ("a\nb\x00c", "a_b_c"), ("", "_"), ("..", "_"),
    ("x" * 300, "x" * 80), ("Žofie Müller", "Žofie Müller"), ("a\u202eb", "a_b"),
])  # fmt: skip
def test_names_for_files_and_tables(name, safe):
    assert records.printable(name) == safe


def test_a_key_changes_with_what_decides_the_grade(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text("one")
    keys = {records.key(records.Submission(path, who), {"seed": seed}) for who in "ab" for seed in "12"}
    before = records.key(records.Submission(path, "a"), {"seed": "1"})
    path.write_text("two")
    assert len(keys) == 4 and before != records.key(records.Submission(path, "a"), {"seed": "1"})


def test_pages_escape_what_learners_wrote():
    evil = "<script>alert(1)</script>"
    mark = {"status": "failed", "points": 1, "max_points": 4, "lines": [f"✗ {evil}", "  and `code` more"], "failed": [],
            "advice": evil, "notes": [evil], "source": evil}  # fmt: skip
    record = {"lesson": "00", "notes": [evil], "marks": {task.name: mark for task in lesson("00").exercises}}
    for text in (feedback(evil, record), feedback(evil, {"error": evil}),
                 class_page([(evil, "feedback/x.html", record), (evil, "y", {"error": evil})], [evil])):  # fmt: skip
        assert "<script" not in text and "&lt;script&gt;" in text
    assert "and <code>code</code> more" in feedback("ada", record)
