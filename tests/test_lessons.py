"""What every lesson's exercises do: reject wrong answers by name, take other right ones, meet nonsense with words,
and bring somebody late level with the room. What only one lesson does stands in its own file.
"""

import importlib
import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from peft_from_scratch.check import audit, grade, lesson, start_from
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.grading import execute
from peft_from_scratch.course.routes import route

LESSONS = [leg.lesson.id for leg in route("full")[0]]
OWN = {id: importlib.import_module(f"test_lesson_{id}") for id in LESSONS}
TASKS = [(id, task) for id in LESSONS for task in lesson(id).exercises]
OTHERS = [(id, *answer) for id in LESSONS for answer in OWN[id].OTHER_RIGHT_ANSWERS.items()]
POINTS = {"00": 20, "01": 25, "02": 27, "03": 27, "04": 29, "06": 34, "07": 24}

each_lesson = pytest.mark.parametrize("id", LESSONS)
each_task = pytest.mark.parametrize(("id", "task"), TASKS, ids=[task.name for _, task in TASKS])


@cache
def names(id: str) -> dict:
    """What the notebook has imported or made before its exercises, where they need more than torch."""
    found = getattr(OWN[id], "NAMES", {})
    return found() if callable(found) else found


@each_task
def test_wrong_answers_are_rejected_and_named(id, task):
    assert audit(task, names(id)) == []


@pytest.mark.parametrize("seed", range(3))
@each_task
def test_the_verdict_does_not_depend_on_the_seed(id, task, seed, monkeypatch):
    monkeypatch.setenv("PFS_SEED", str(seed))
    assert audit(task, names(id)) == []


@pytest.mark.parametrize(("id", "what", "answer"), OTHERS, ids=[f"{id} {what}" for id, what, _ in OTHERS])
def test_other_right_answers_pass(id, what, answer):
    name, source = answer
    task = OWN[id].TASKS[name]
    space = execute(source, scratch(task, names(id)), "another")
    result = grade(task, {each: space[each] for each in task.names})
    assert result.passed, result.lines


@each_task
def test_nonsense_gets_a_sentence_and_no_points(id, task):
    for nonsense in (None, 7, "?", [None], {}, lambda *_: None, lambda *_: "?", nn.Linear):
        answer = nonsense if len(task.names) == 1 else (nonsense,) * len(task.names)
        result = grade(task, answer)
        assert result.points == 0 and not result.passed and result.first_failure, nonsense


@each_lesson
def test_somebody_late_is_level_with_the_room(id, monkeypatch, tmp_path, capsys):
    """In the middle of the lesson: all that came before is there, and nothing that is still to be written."""
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    tasks = lesson(id).exercises
    half = len(tasks) // 2
    space = {"torch": torch, "nn": nn, "F": F, "math": math, **names(id)}
    start_from(f"{id}.{half + 1}", space)
    assert all(name in space for task in tasks[:half] for name in task.names)
    assert not any(name in space for task in tasks[half:] for name in task.names)
    start_from(f"{id}.{len(tasks) + 1}", space)
    assert all(name in space for task in tasks for name in task.names)
    assert f"Ready for {id}.{half + 1}" in capsys.readouterr().out


@each_lesson
def test_points_and_minutes(id):
    """The exercises leave time for the text; the points are those that certificates and plans were written with."""
    tasks = lesson(id).exercises
    assert sum(task.points for task in tasks) == POINTS[id]
    assert sum(task.minutes for task in tasks) < lesson(id).minutes
