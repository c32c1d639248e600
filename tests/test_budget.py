"""The budget: one place reads the mode; a bad one is a clear error; setup seeds and says one line."""

import random
from pathlib import Path

import numpy
import pytest
import torch

from peft_from_scratch.course import budget, saved, setup
from peft_from_scratch.course.budget import run_time

ROOT = Path(__file__).parent.parent


@pytest.fixture
def t4(monkeypatch):
    """A machine with a T4: compute capability 7.5, which only emulates bf16."""
    device = type("Device", (), {"name": "Tesla T4", "total_memory": 15 * 2**30})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: device)
    monkeypatch.delenv("PEFT_COURSE_MODE", raising=False)


def test_ci_is_tiny(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    found = budget()
    assert (found.mode, found.device, found.model, found.data, found.amp) == ("ci", "cpu", "tiny-bert", "toy", "off")
    assert found.steps <= 5 and "its numbers mean nothing" in str(found)


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_gpu_it_is_the_small_mode(monkeypatch, value):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("PEFT_COURSE_MODE", raising=False)
    if value is not None:
        monkeypatch.setenv("PEFT_COURSE_MODE", value)
    found = budget()
    assert (found.mode, found.model, found.data) == ("cpu", "minilm", "reviews")
    threads = torch.get_num_threads()
    assert str(found).startswith(f"no GPU: small mode on the CPU, {threads} threads; in Colab: Runtime >")
    assert "\n" not in str(found) and len(str(found)) < 100


def test_a_t4_gets_fp16(t4):
    found = budget()
    assert (found.mode, found.device, found.amp) == ("gpu", "cuda", "fp16")
    assert str(found).startswith("GPU: Tesla T4 15 GB, fp16 (no bf16) | ")


def test_a_newer_gpu_gets_bf16(t4, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    assert budget().amp == "bf16"


def test_the_cpu_may_be_chosen_beside_a_gpu(t4, monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "cpu")
    assert budget().device == "cpu" and str(budget()).startswith("small mode on the CPU")


def test_bad_modes_are_clear_errors(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "fast")
    with pytest.raises(ValueError, match="'fast'; set it to ci, cpu or gpu, or unset it"):
        budget()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("PEFT_COURSE_MODE", "gpu")
    with pytest.raises(RuntimeError, match="torch finds no GPU"):
        budget()


def test_setup_seeds_all_three_and_prints_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")

    def draws():
        setup(seed=3)
        return random.random(), float(numpy.random.rand()), float(torch.rand(1))

    assert draws() == draws()
    assert capsys.readouterr().out.count("\n") == 2


def test_setup_says_how_long_a_lesson_runs(monkeypatch, capsys):
    """From the measured file, for every lesson there is."""
    monkeypatch.setenv("PEFT_COURSE_MODE", "cpu")
    found = saved("notebooks")
    for name in (path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        setup(name[:2])
        said = capsys.readouterr().out.splitlines()[1]
        assert f"{found[name]['cpu']['seconds'] / 60:.1f} minutes" in said
        assert f"{found[name]['cpu']['peak_mb'] / 1000:.1f} GB" in said
        assert f'setup("{name[:2]}")' in (ROOT / "notebooks" / f"{name}.ipynb").read_text().replace('\\"', '"')
    assert run_time("99", "cpu") == run_time("00", "gpu") == ""
