"""The check engine on a made-up lesson: right, wrong, unwritten, endless and hostile answers."""

import ast
import dataclasses
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from peft_from_scratch.check import (
    CheckFailed,
    Property,
    UnknownName,
    audit,
    calibration,
    check,
    exercise,
    grade,
    hint,
    lessons,
    lookup,
    predict,
    reveal,
    session,
    solution,
    start_from,
)
from peft_from_scratch.check.grading import execute
from peft_from_scratch.check.timelimit import OutOfTime, _by_thread, time_limit
from peft_from_scratch.check.tools import unchanged
from peft_from_scratch.check.unwritten import has_empty_body, has_gap
from peft_from_scratch.check.words import say
from peft_from_scratch.course.progress import read_events

DEMO = Path(__file__).parent / "lessons"
RIGHT = "def lora_forward(x, W, b, A, B, scale):\n    return x @ W.T + b + scale * (x @ A.T) @ B.T"
STUB = 'def lora_forward(x, W, b, A, B, scale):\n    """One line."""\n    ...'
NO_SCALE = "def lora_forward(x, W, b, A, B, scale):\n    return x @ W.T + b + (x @ A.T) @ B.T"


@pytest.fixture(autouse=True)
def demo(monkeypatch, tmp_path):
    """The made-up lesson, a log of its own, and no memory of other tests."""
    monkeypatch.setenv("PFS_LESSONS", str(DEMO))
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    monkeypatch.delenv("PFS_STRICT", raising=False)
    session.failures.clear()
    session.handed_out.clear()


def cell(source, space=None):
    """Run a cell body as a notebook would."""
    return execute(source, {"__builtins__": __builtins__} if space is None else space, "a cell")


def forward_with(body, **changes):
    """The result for a lora_forward with this body."""
    source = "def lora_forward(x, W, b, A, B, scale):\n" + "\n".join("    " + line for line in body.splitlines())
    return grade(dataclasses.replace(exercise("demo.forward"), **changes), cell(source))


def test_right_answer_gets_all_points():
    result = grade(exercise("demo.forward"), cell(RIGHT))
    assert (result.passed, result.points, result.max_points, result.first_failure) == (True, 3, 3, None)
    assert result.lines[0] == "✓ starts at the frozen layer"
    assert result.lines[-1] == "3 of 3 points: demo.forward"


def test_every_exercise_of_the_demo_is_sound():
    for task in lessons()["99"].exercises:
        assert audit(task) == []


def test_audit_finds_what_a_check_lets_through():
    task = exercise("demo.count")
    lenient = dataclasses.replace(task, properties=(Property("is there", lambda count, rng: None),))
    assert any("'d_in * d_out': it passes" in each for each in audit(lenient))
    assert any("no wrong answer fails" in each for each in audit(lenient))
    assert any("fewer than 5" in each for each in audit(dataclasses.replace(task, wrong=task.wrong[:4])))


def test_core_property_caps_the_points_and_only_the_first_fault_is_explained():
    result = grade(exercise("demo.forward"), cell(NO_SCALE))
    assert result.points == 1  # 2 of 3 properties hold; the cap is 40 % of 3
    assert "scale" in result.first_failure and result.failed == ("adds the scaled correction",)
    both = grade(exercise("demo.forward"), cell("def lora_forward(x, W, b, A, B, scale):\n    return x * 0"))
    assert [":" in line for line in both.lines if line.startswith("✗")] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        "...",
        "pass",
        '"""Doc."""\n...',
        "raise NotImplementedError",
        "y = ...\nreturn y",
        "return ...",
        'raise NotImplementedError("write it")',
        "x[..., 0] = 1\ny = ...",
        "x.A = ...",
        "return x @ ... + b",
        "y = nn.Parameter(...)\nreturn y",
    ],
)
def test_unwritten_answers_are_one_line(body):
    result = forward_with(body)
    assert result.lines == ("○ demo.forward: not written yet",)
    assert (result.status, result.points) == ("unwritten", 0)


def test_an_ellipsis_index_is_no_gap():
    def first(x):
        return x[..., 0]

    def update(self, x, i):
        self.y = x[..., i + 1]
        x[..., :i] = 0
        x[...] += 1

    assert not any(has_gap(each) or has_empty_body(each) for each in (first, update))
    assert not has_empty_body(lambda x: x) and has_gap(...) and has_gap({"a": ..., "b": ...}) and not has_gap({})


def test_unwritten_class_and_values():
    stub = cell(
        "class LoRALinear:\n    def __init__(self, base, r, alpha):\n        self.base = base\n"
        "    def forward(self, x):\n        ..."
    )
    assert grade(exercise("demo.layer"), stub).status == "unwritten"
    assert grade(exercise("demo.steps"), cell("order = ...")).status == "unwritten"
    assert grade(exercise("demo.steps"), cell("order = [..., ..., ...]")).status == "unwritten"
    assert grade(exercise("demo.guess"), cell("my_guess = ...\nmy_range = ...")).status == "unwritten"
    assert grade(exercise("demo.guess"), cell("my_guess = ...\nmy_range = (..., ...)")).status == "unwritten"
    half = grade(exercise("demo.guess"), cell("my_guess = 3\nmy_range = ..."))
    assert half.status == "failed" and "`my_range` is still `...`" in half.lines[0]
    assert "left in `order`" in grade(exercise("demo.steps"), cell("order = [2, ..., 3]")).lines[0]


@pytest.mark.parametrize(
    "body, says",
    [
        ("x @ W.T", "is a `return` missing"),
        ("return x @ W", "RuntimeError: mat1 and mat2"),
        ("return x @ W", "in line 2: `return x @ W`"),
        ("return lora_forward(x, W, b, A, B, scale)", "calls itself without end"),
        ("return undefined_thing", "NameError: name 'undefined_thing' is not defined, in line 2"),
        ("exit()", "SystemExit|NameError"),
        ("raise SystemExit", "ends the whole program"),
        ("assert False, 'mine'", "your code stopped with AssertionError: mine"),
        ("return 3.0", "returned a float; a tensor is wanted"),
        ("return x @ W.T + b.sum(0) * 0", "wanted|check W and b"),
    ],
)
def test_faulty_answers_are_met_with_one_sentence(body, says):
    import re

    result = forward_with(body)
    assert not result.passed and result.points <= 1
    assert re.search(says, result.first_failure), result.first_failure
    assert all(len(line) < 100 for line in result.lines) and "Traceback" not in "".join(result.lines)


def test_mutated_inputs_are_named():
    result = forward_with("W += scale * B @ A\nreturn x @ W.T + b")
    assert "leaves its inputs as they are" in result.failed
    W = torch.ones(2)
    with pytest.raises(AssertionError, match="changed its input `W`"), unchanged(W=W):
        W.add_(1)


def test_a_function_is_wanted():
    assert "of type int" in grade(exercise("demo.forward"), cell("lora_forward = 3")).first_failure


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "while True: print('x')",
        "while True:\n    try:\n        1\n    except Exception:\n        pass",
        "while True:\n    try:\n        1\n    except:\n        pass",
    ],
)
def test_an_endless_loop_is_stopped(body):
    before = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    result = forward_with(body)
    assert time.monotonic() - start < 2.5
    assert "does a loop in your code never end" in result.first_failure and result.points == 0
    assert result.lines[1] == "– adds the scaled correction (not tried)"
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_endless_loop_is_stopped_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(forward_with("while True: pass")))
    thread.start()
    thread.join(5)
    assert "never end" in found[0].first_failure


def test_the_time_limit_gives_an_outer_timer_back():
    hits = []
    before = signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 30)
        with pytest.raises(OutOfTime), time_limit(0.05):
            time.sleep(5)
        assert 20 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 30 and not hits
    finally:
        signal.signal(signal.SIGALRM, before)
    with _by_thread(0.05):
        pass
    time.sleep(0.1)  # nothing arrives late


def test_nothing_a_learner_does_outlives_the_check(capsys):
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    result = forward_with(
        "print('noise')\ntorch.manual_seed(9)\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_grad_enabled(False)\nreturn x",
        time_limit=5.0,
    )
    assert result.status == "failed"  # torch is not defined in that cell
    result = forward_with(
        "import torch\nprint('noise')\ntorch.manual_seed(9)\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_grad_enabled(False)\nreturn x @ W.T + b + scale * (x @ A.T) @ B.T"
    )
    assert result.passed
    assert torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()
    assert torch.equal(torch.randn(2), expected)
    assert capsys.readouterr().out == ""


def test_checks_work_under_no_grad_and_another_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert grade(exercise("demo.forward"), cell(RIGHT)).passed
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_patched_allclose_fools_nobody(monkeypatch):
    monkeypatch.setattr(torch, "allclose", lambda *_, **__: True)
    monkeypatch.setattr(torch, "equal", lambda *_, **__: True)
    assert not grade(exercise("demo.forward"), cell(NO_SCALE)).passed


def test_inputs_depend_on_the_seed_and_not_on_other_properties(monkeypatch):
    seen = []
    spy = Property("spy", lambda answer, rng: seen.append(torch.randn(2, generator=rng)))
    task = exercise("demo.count")
    for properties in ((spy,), (*task.properties, spy)):
        grade(dataclasses.replace(task, properties=properties), len)
    monkeypatch.setenv("PFS_SEED", "7")
    grade(dataclasses.replace(task, properties=(spy,)), len)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_grading_is_fast():
    start = time.monotonic()
    grade(exercise("demo.forward"), cell(RIGHT))
    assert time.monotonic() - start < 1


def test_an_exercise_must_make_sense():
    task = exercise("demo.count")
    with pytest.raises(ValueError, match="difficulty.*; the reference is longer than 15 lines"):
        dataclasses.replace(task, difficulty=9, reference="x = 1\n" * 16)


# check() ---------------------------------------------------------------------------------------------------------


def test_check_returns_the_learners_object_and_logs(capsys):
    space = cell(RIGHT)
    assert check("demo.forward", "lora_forward", space) is space["lora_forward"]
    assert "3 of 3 points" in capsys.readouterr().out
    event = read_events()[-1]
    assert (event["kind"], event["exercise"], event["points"], event["lesson"]) == ("check", "demo.forward", 3, "99")


def test_check_finds_the_callers_globals(monkeypatch):
    monkeypatch.setitem(globals(), "lora_count", lambda d_in, d_out, r: r * (d_in + d_out))
    assert check("demo.count", "lora_count") is globals()["lora_count"]


def test_check_hands_out_the_reference_and_says_so(capsys):
    space = cell(NO_SCALE)
    handed = check("demo.forward", "lora_forward", space)
    out = capsys.readouterr().out
    assert handed is not space["lora_forward"] and "goes on with the reference's lora_forward" in out
    ones = torch.ones
    assert handed(ones(1, 2), ones(3, 2), torch.zeros(3), ones(1, 2), ones(3, 1), 2.0).sum() == 18


def test_running_a_check_cell_twice_does_not_grade_the_reference(capsys):
    space = cell(NO_SCALE)
    for _ in range(2):
        space["lora_forward"] = check("demo.forward", "lora_forward", space)
    assert [event["points"] for event in read_events()] == [1, 1]
    cell(RIGHT, space)
    assert check("demo.forward", "lora_forward", space) is space["lora_forward"]


def test_unstarted_prints_one_line_and_goes_on(capsys):
    space = cell(STUB)
    handed = check("demo.forward", "lora_forward", space)
    assert capsys.readouterr().out == "○ demo.forward: not written yet\n"
    assert handed is not space["lora_forward"] and handed.__code__.co_argcount == 6


def test_undefined_and_misspelt_names(capsys):
    assert callable(check("demo.forward", "lora_forward", cell("x = 1")))
    check("demo.forward", "lora_forward", cell(RIGHT.replace("lora_forward", "lora_foward")))
    out = capsys.readouterr().out
    assert "`lora_forward` is not defined. Run the cell that defines it" in out
    assert "Did you mean 'lora_foward'?" in out


def test_unknown_exercise_suggests_the_near_one(capsys, monkeypatch):
    assert check("demo.foward", "f", {"f": 3}) == 3
    assert "There is no exercise 'demo.foward'. Did you mean 'demo.forward'?" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="Known|Did you mean"):
        exercise("nothing.like.it")
    monkeypatch.setenv("PFS_STRICT", "1")
    with pytest.raises(CheckFailed, match="demo.forward"):
        check("demo.foward", "f", {"f": 3})


def test_strict_raises(monkeypatch):
    monkeypatch.setenv("PFS_STRICT", "1")
    with pytest.raises(CheckFailed, match="scale"):
        check("demo.forward", "lora_forward", cell(NO_SCALE))
    assert check("demo.count", "lora_count", cell(exercise("demo.count").reference))


def test_two_names_in_one_exercise(capsys):
    assert check("demo.guess", "my_guess, my_range", cell("my_guess = 3\nmy_range = (1, 5)")) == (3, (1, 5))
    assert check("demo.guess", "my_guess, my_range", cell("my_guess = 3")) == (..., ...)
    assert "`my_range` is not defined" in capsys.readouterr().out


def test_a_prediction_is_never_replaced_by_the_references():
    assert check("demo.guess", None, cell("my_guess = ...\nmy_range = ...")) == (..., ...)
    assert check("demo.guess", None, cell("my_guess = 500\nmy_range = (1, 9)")) == (500, (1, 9))


def test_a_pointer_to_hints_comes_after_three_tries(capsys):
    space = cell(NO_SCALE)
    for number in range(3):
        check("demo.forward", "lora_forward", space)
        assert ('hint("demo.forward")' in capsys.readouterr().out) == (number == 2)


def test_a_reference_that_cannot_be_loaded(capsys):
    assert check("demo.layer", "LoRALinear", cell("x = 1")) is None
    assert "NameError: name 'nn' is not defined): run the cells above" in capsys.readouterr().out


def test_hints_come_in_three_steps(capsys):
    for _ in range(4):
        hint("demo.count")
    hint("demo.count", 1)
    hint("demo.count", 7)
    hint("demo.cuont")
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["Hint 1 of 3, a question:", "  How many numbers has A?", "Hint 2 of 3, the equation:"]
    assert sum("That is the last one" in line for line in out) == 2
    assert out[-2:] == [
        "Hints have steps 1, 2 and 3, not 7.",
        "There is no exercise 'demo.cuont'. Did you mean 'demo.count'?",
    ]
    assert [event["step"] for event in read_events()] == [1, 2, 3, 3, 1]


def test_solution_shows_the_reference_and_is_recorded(capsys):
    solution("demo.count")
    assert capsys.readouterr().out == exercise("demo.count").reference + "\n\nLinear in r.\n"
    assert read_events()[-1]["kind"] == "solution"


def test_signs_survive_a_terminal_without_them(monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="cp1252", write_through=True))
    say("✓ x Wᵀ")
    assert raw.getvalue().strip() == b"+ x W?"


# predictions, start_from, lookup -----------------------------------------------------------------------------------


def test_predictions_are_compared_at_once(capsys):
    predict("99.share", 5, (2, 10))
    reveal("99.share", torch.tensor(0.325))
    predict("99.flops", guess=0.6, low=0.5, high=0.7)
    reveal("99.flops", 0.668)
    out = capsys.readouterr().out
    assert "99.share: 0.325. You said 5 (2 to 10): outside your range, 15.4 times too high." in out
    assert "inside your range, 1.11 times too low." in out
    predict("99.share", 0.325, (0.3, 0.4))  # too late: it knows the answer
    reveal("99.share", 0.325)
    found = calibration()
    assert found.rate == 0.5 and len(found.rows) == 2 and not found.rows[0].inside
    assert "1 of 2 inside their range (50%); aim: 80%." in str(found)


@pytest.mark.parametrize(
    "args, says",
    [
        ((..., ...), "no prediction made"),
        ((3, ...), "no prediction made"),
        ((3,), "no prediction made"),
        ((3, (..., 5)), "no prediction made"),
        ((3, (5, 1)), "upside down"),
        ((9, (1, 5)), "outside your own range"),
        (("0.3 %", (1, 5)), "not a finite number"),
        ((True, (0, 5)), "not a finite number"),
        ((float("nan"), (0, 5)), "not a finite number"),
        ((3, 5), "two numbers"),
        ((3, (1, 2, 3)), "two numbers"),
        ((torch.ones(3), (1, 2)), "not a finite number"),
        ((None, (1, 2)), "not a finite number"),
    ],
)
def test_nonsense_predictions_get_a_sentence(args, says, capsys):
    predict("99.x", *args)
    reveal("99.x", 4.0)
    out = capsys.readouterr().out
    assert says in out and "99.x: 4 (no prediction made)" in out
    assert read_events() == [] and calibration().rate is None


def test_reveal_refuses_a_broken_measurement(capsys):
    predict("99.x", 1, (0, 2))
    reveal("99.x", float("nan"))
    assert "not a finite number" in capsys.readouterr().out


def test_start_from_loads_the_references_before(capsys):
    space = {"__builtins__": __builtins__}
    start_from("99.4", space)
    assert space["lora_count"](7, 5, 2) == 24 and space["my_range"] == (0.1, 5.0) and "order" not in space
    assert "Ready for 99.4. Loaded: lora_forward, lora_count, my_guess, my_range." in capsys.readouterr().out
    assert read_events()[-1]["kind"] == "start_from"
    check("demo.count", "lora_count", space)  # the reference earns no points
    assert read_events()[-1]["points"] == 0 and "is the reference's" in capsys.readouterr().out


def test_start_from_keeps_own_answers_that_pass(capsys):
    space = cell(exercise("demo.count").reference, cell(NO_SCALE))
    own, faulty = space["lora_count"], space["lora_forward"]
    start_from("99.3", space)
    assert space["lora_count"] is own and space["lora_forward"] is not faulty
    assert "Loaded: lora_forward. Kept your own: lora_count." in capsys.readouterr().out


@pytest.mark.parametrize(
    "place, says",
    [
        ("77.2", "There is no lesson '77'. Lessons: "),
        ("99.9", "exercises 1 to 6"),
        ("99.0", "exercises 1 to 6"),
        ("99", 'Write start_from("04.4")'),
    ],
)
def test_start_from_an_unknown_place(place, says, capsys, monkeypatch):
    start_from(place, {})
    assert says in capsys.readouterr().out
    monkeypatch.setenv("PFS_STRICT", "1")
    with pytest.raises(UnknownName):
        start_from(place, {})


def test_start_from_before_the_setup_cell(capsys):
    start_from("99.6", {"__builtins__": __builtins__})
    assert "demo.layer could not be loaded (NameError: torch, nn not defined)" in capsys.readouterr().out


def test_two_exercises_may_not_share_a_name(tmp_path, monkeypatch):
    text = (DEMO / "99_demo.py").read_text(encoding="utf-8")
    (tmp_path / "98_copy.py").write_text(text.replace('id="99"', 'id="98"'), encoding="utf-8")
    monkeypatch.setenv("PFS_LESSONS", f"{DEMO}{lookup.os.pathsep}{tmp_path}")
    with pytest.raises(ValueError, match="share a name: demo.count"):
        lessons()


def test_lessons_are_found_by_id_and_slug():
    assert lookup.lesson("99") is lookup.lesson("demo") is lookup.lesson("99_demo")


# the notebook's cells, without a notebook ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, names",
    [
        ("def f(x):\n    y = 1\n    return y", {"f"}),
        ("class A:\n    b = 2", {"A"}),
        ("a, b = 1, 2", {"a", "b"}),
        ("x: int = 3", {"x"}),
        ("f = check('a', 'f')", set()),
        ("f = pfs.check('a', 'f')", set()),
        ("x == 3", set()),
        ("def broken(:\n  1", {"broken"}),
        ("print('a=b')", set()),
        ("print(1); order = [2]", {"order"}),
        ("@jaxtyped\nasync def g(): ...", {"g"}),
    ],
)
def test_names_a_cell_defines(source, names):
    assert session.defined_names(source) == names


@pytest.fixture
def shell():
    """An IPython shell in this process, with the hooks."""
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    one = interactive.instance()
    yield one
    interactive.clear_instance()


def test_the_older_definition_is_not_graded(shell, capsys):
    def run(source):
        shell.run_cell(source, store_history=True)
        return capsys.readouterr().out

    run("from peft_from_scratch.check import check\nimport peft_from_scratch.check.session as s\ns.watch()")
    run(RIGHT)
    assert "3 of 3" in run('check("demo.forward", "lora_forward")')
    run("undefined_name\n" + RIGHT)
    out = run('check("demo.forward", "lora_forward")')
    assert "the cell that defines lora_forward stopped with NameError" in out and "older version is not graded" in out
    run("def lora_forward(x:\n    return x")
    assert "stopped with SyntaxError" in run('check("demo.forward", "lora_forward")')
    run(RIGHT + "\nundefined_name")  # this one did define it, before it failed
    assert "3 of 3" in run('check("demo.forward", "lora_forward")')


def test_equal_values_are_told_apart_by_the_cell_that_wrote_them(shell, capsys):
    shell.run_cell("from peft_from_scratch.check import check, session\nsession.watch()")
    shell.run_cell("n = 7")
    again = 'n = check("demo.number", "n")'
    shell.run_cell(again)
    shell.run_cell(again)
    shell.run_cell("n = 12")  # Python keeps one object for 12, so identity says nothing
    shell.run_cell(again)
    assert [event["points"] for event in read_events()] == [0, 0, 1]


def test_no_engine_file_is_long():
    for path in (Path(session.__file__).parent).glob("*.py"):
        source = path.read_text(encoding="utf-8")
        longest = [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno > 40
        ]
        assert not longest, path
