"""The bug museum: the exhibits exist and are shown to who makes the fault (audit() holds that each fits it)."""

import torch

from peft_from_scratch import Adapter
from peft_from_scratch.check import check, lessons
from peft_from_scratch.course.saved import saved

LAYER = """
class LoRALinear(Adapter):
    def __init__(self, base, r, alpha):
        super().__init__(base)
        self.A = nn.Parameter(torch.randn(r, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = {scale}

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T

    def change(self):
        return self.scale * self.B @ self.A
"""


def said_of(scale: str, capsys, monkeypatch, tmp_path) -> str:
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))
    space = {"__builtins__": __builtins__, "torch": torch, "nn": torch.nn, "Adapter": Adapter}
    exec(LAYER.format(scale=scale), space)
    check("lora.layer", "LoRALinear", space)
    return " ".join(capsys.readouterr().out.split())


def test_each_lesson_but_the_first_exhibits_two_faults():
    for lesson in lessons().values():
        shown = {wrong.museum for task in lesson.exercises for wrong in task.wrong} - {""}
        assert len(shown) >= 2 or lesson.id == "00", lesson.id  # in 00 nothing has been trained yet
        runs = saved(f"{lesson.id}_museum")["runs"] if shown else {}
        assert shown <= set(list(runs)[1:])  # the first is the one without a fault
        assert all(len(run["loss"]) == len(run["step"]) for run in runs.values())


def test_check_shows_what_became_of_the_fault(capsys, monkeypatch, tmp_path):
    said = said_of("alpha", capsys, monkeypatch, tmp_path)
    assert "From the bug museum" in said and "α not divided by r: loss" in said and "#821" in said


def test_nothing_is_shown_for_a_fault_that_was_not_trained(capsys, monkeypatch, tmp_path):
    said = said_of("r / alpha", capsys, monkeypatch, tmp_path)
    assert "upside down" in said and "museum" not in said


def test_nothing_is_shown_for_a_right_answer(capsys, monkeypatch, tmp_path):
    assert "museum" not in said_of("alpha / r", capsys, monkeypatch, tmp_path)
