"""The written pages: what they say happens, happens; what they sum up, sums up."""

import contextlib
import io
import re

import error_desk
import pytest
import torch

from peft_from_scratch.check.lookup import lessons
from peft_from_scratch.course.lessons import notebook_path
from peft_from_scratch.course.site.pages import FOLDER

TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))


def sections(text):
    """Heading of the second level -> what stands under it."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_message_of_the_error_desk_is_given(tmp_path, monkeypatch, capsys):
    desk = {heading: FENCE.search(body)[2].strip() for heading, body in sections(TEXTS["learner-errors"]).items()}
    given = error_desk.messages(tmp_path, monkeypatch, capsys)
    assert set(desk) - {"No GPU"} <= set(given) <= set(desk)
    strangers = {heading: (desk[heading], words) for heading, words in given.items() if desk[heading] not in words}
    assert strangers == {}


def run(code):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "<page>", "exec"), {"__name__": "page"})
    return out.getvalue().strip()


def test_the_self_test_prints_what_it_says():
    fences = FENCE.findall(TEXTS["learner-prerequisites"])
    asked = [code for language, code in fences if language == "python"]
    answers = [text.strip() for language, text in fences if language == "text"]
    assert len(asked) == len(answers) == 12
    for code, answer in zip(asked, answers, strict=True):
        assert run(code) == answer, code


def test_the_method_of_the_contributors_page_runs():
    (code,) = [code for language, code in FENCE.findall(TEXTS["contributor-method"]) if language == "python"]
    assert run(code) == "True"


def test_the_probe_of_the_stuck_page_tells_none_from_zero(capsys):
    probe = next(code for _, code in FENCE.findall(TEXTS["learner-stuck"]) if "backward" in code)
    model = error_desk.adapted()
    exec(probe, {"model": model, "batch": error_desk.BATCH})
    assert "query.A 0.0" in capsys.readouterr().out.replace("query.default", "query")
    model.query.B.requires_grad_(True)
    assert torch.count_nonzero(model.query.B.grad)


def minutes(table):
    return [(int(number), what) for number, what in re.findall(r"^\| (\d+) \| ([^|]+) \|", table, re.MULTILINE)]


def cut_minutes(lesson):
    """The minutes of the shorter cut, as the instructor's page of the lesson states them."""
    page = notebook_path(lesson).parent / "instructor" / f"{lesson.id}_{lesson.slug}.md"
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if "shorter cut" in line.lower()]
    return {int(number) for line in lines for number in re.findall(r"\d+", line)}


@pytest.mark.parametrize(("plan", "low", "high"), [("Three hours", 180, 180), ("One day", 420, 480)])
def test_a_plan_fits_its_time(plan, low, high):
    parts = minutes(sections(TEXTS["instructor-plans"])[plan])
    assert low <= sum(number for number, _ in parts) <= high
    for number, what in parts:
        if found := re.match(r"lesson (\d\d)", what):
            lesson = lessons().get(found[1])
            assert lesson is None or number <= lesson.minutes, what
            if "shorter cut" in what:
                assert number in cut_minutes(lesson), what


def test_there_are_ten_meetings():
    assert [number for number, _ in minutes(sections(TEXTS["instructor-plans"])["Ten meetings of two hours"])] == list(
        range(1, 11)
    )


def test_the_glossary_is_in_order_and_says_something():
    words = re.findall(r"^\*\*(.+?)\.\*\* (.+)$", sections(TEXTS["learner-glossary"])["Words"], re.MULTILINE)
    names = [name.lower() for name, _ in words]
    assert names == sorted(names) and len(names) == len(set(names)) > 35
    assert all(len(said) > 20 for _, said in words)


@pytest.mark.parametrize("name", TEXTS)
def test_headings_are_in_order(name):
    levels = [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", TEXTS[name]), re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))


def test_commands_that_pages_name_exist():
    from peft_from_scratch.__main__ import COMMANDS as TOP
    from peft_from_scratch.course.cli import COMMANDS

    text = "\n".join(TEXTS.values())
    assert set(re.findall(r"peft-course (\w+)", text)) <= set(COMMANDS)
    assert set(re.findall(r"python -m peft_from_scratch (\w+)", text)) <= set(TOP)
