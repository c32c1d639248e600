"""The demo in ci mode: it compares, keeps its runs, goes on where it stopped, and draws."""

import json

import pytest
import torch

from peft_from_scratch.__main__ import main
from peft_from_scratch.measure.intervals import bootstrap, paired
from peft_from_scratch.plots import comparison, parameter_field, percent, show


def test_the_demo_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    assert main(["demo", "--seeds", "1", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for method in ("full", "head only", "BitFit", "LoRA"):
        assert method in out
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    runs = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert {json.loads(line)["method"] for line in runs} == {"full", "head only", "BitFit", "LoRA"}

    (tmp_path / "runs.jsonl").write_text("\n".join([*runs[:3], runs[3][:50]]))  # killed while it wrote the last line
    assert main(["demo", "--seeds", "1", "--out", str(tmp_path)]) == 0
    again = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines() if line.endswith("}")]
    assert [run["correct"] for run in again] == [json.loads(line)["correct"] for line in runs], "only the last is rerun"


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit):
        main(["dmeo"])
    assert "dmeo" in capsys.readouterr().err


def test_the_interval_covers_seeds_and_items():
    items = torch.rand(3, 400, generator=torch.Generator().manual_seed(0)) < 0.8
    found = bootstrap(items)
    assert found.low < found.mean < found.high and 0.02 < found.high - found.low < 0.08
    apart = torch.stack([torch.ones(400), torch.zeros(400)]).bool()  # the seeds differ, so three items say little
    assert bootstrap(apart).high - bootstrap(apart).low > 0.9
    assert paired(items, items) == (0.0, 0.0, 0.0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Simulated: two equal methods; the skill of a seed and the difficulty of an item are both random."""
    g, hits, trials = torch.Generator().manual_seed(1), 0, 60
    for _ in range(trials):
        item = 0.8 + 0.15 * torch.randn(1, 300, generator=g)
        a, b = (torch.rand(5, 300, generator=g) < item + 0.01 * torch.randn(5, 1, generator=g) for _ in range(2))
        low, high = paired(a, b, draws=300)[1:]
        hits += low <= 0 <= high
    assert hits / trials > 0.88


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
