"""The demo in ci mode: it compares, keeps its runs, goes on where it stopped, and draws."""

import json

import pytest
import torch

from peft_from_scratch.__main__ import main
from peft_from_scratch.measure.intervals import bootstrap
from peft_from_scratch.plots import comparison, parameter_field, percent, show


def test_the_demo_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    assert main(["demo", "--seeds", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for method in ("full", "head only", "BitFit", "LoRA"):
        assert method in out
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    kept = tmp_path / "cpu" / "demo.jsonl"
    runs = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {line["method"] for line in runs} == {"full", "head only", "BitFit", "LoRA"}

    whole = kept.read_text()
    kept.write_text(whole[:-50])  # killed while it wrote the last line
    assert main(["demo", "--seeds", "1", "--out", str(tmp_path)]) == 0
    again = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [line.get("items") for line in again] == [line.get("items") for line in runs], "only the last is made again"


def test_the_demo_finds_its_rates(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    assert main(["demo", "--tune", "--out", str(tmp_path)]) == 0
    runs = [json.loads(line) for line in (tmp_path / "cpu" / "demo.jsonl").read_text().splitlines()]
    assert {line["split"] for line in runs} == {"dev"} and len(runs) >= 12


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit):
        main(["dmeo"])
    assert "dmeo" in capsys.readouterr().err


def test_figures_have_their_sentence(capsys):
    fig, alt = parameter_field(73_728, 22_713_216)
    assert "0.325%" in alt and "73,728" in alt and fig.axes
    row = dict(
        accuracy=bootstrap(torch.rand(2, 50) < 0.7), seeds=[0.7, 0.8], trained=1.0, flops=1.0, memory=1.0, file=1.0
    )
    fig, alt = comparison([{"method": "full"} | row, {"method": "LoRA"} | row | {"trained": 0.01}])
    assert "LoRA trains 1.00 % of the numbers" in alt and len(fig.axes) == 2
    show(fig, alt)
    assert percent(1) == "100 %" and percent(0.668) == "66.8 %" and percent(0.00325) == "0.33 %"
