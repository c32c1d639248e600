"""The project's own files agree with each other, and keep to the limits that they set themselves."""

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from statistics import median

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from peft_from_scratch.compare.report.read import read_tables
from peft_from_scratch.compare.report.sections import verdict
from peft_from_scratch.methods.table import pages

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins_in(file):
    lines = (ROOT / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


PINS = pins_in("constraints.txt")
EXTRAS = PROJECT["optional-dependencies"]
WANTED = [Requirement(r) for r in PROJECT["dependencies"] + sum(EXTRAS.values(), [])]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("wanted", WANTED, ids=lambda r: r.name)
def test_every_dependency_has_a_pin_within_its_bounds(wanted):
    pins = {canonical(k): v for k, v in PINS.items()}
    assert canonical(wanted.name) in pins
    assert wanted.specifier.contains(pins[canonical(wanted.name)])


def test_the_pins_are_what_is_installed():
    for name, pin in PINS.items():
        try:
            assert version(name).split("+")[0] == pin, name
        except PackageNotFoundError:  # something that only another platform or extra needs
            continue


def test_the_pins_run_on_the_oldest_python_that_is_promised():
    """Debian 12 has 3.11.2: a pin that wants 3.11.5 would stop its `make learn`."""
    for name in PINS:
        try:
            wanted = metadata(name)["Requires-Python"]
        except PackageNotFoundError:
            continue
        assert wanted is None or SpecifierSet(wanted).contains("3.11.0"), f"{name} wants Python {wanted}"


def test_the_conda_environment_takes_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"], "the pytorch channel has had nothing since torch 2.5"
    *conda, pip = environment["dependencies"]
    assert conda[1] == "pip" and pip["pip"] == ["--constraint constraints.txt", "--editable .[lab]"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda[0].removeprefix("python=") + ".0")


def test_torch_is_the_tested_version():
    assert PINS["torch"] == "2.13.0"


def test_no_dependency_replaces_what_colab_has():
    """Versions in Colab's image of August 2026; its torch is older than the one that stands for it here."""
    colab = pins_in("constraints-colab.txt") | {"torch": "2.11.0"}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        if requirement.name in colab:
            assert requirement.specifier.contains(colab[requirement.name]), requirement.name


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_a_method_is_a_page():
    lines = {path: lines for _, path, lines in pages()}
    assert max(lines.values()) <= 130, max(lines, key=lines.get)
    assert median(lines.values()) <= 60


def test_nothing_large_and_no_outputs_are_committed():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in files.stdout.splitlines()]
    assert sum(p.stat().st_size for p in paths if p.is_file()) < 20 * 2**20
    for path in paths:
        if path.suffix == ".ipynb" and path.exists():
            assert '"output_type"' not in path.read_text(), path.name


README = (ROOT / "README.md").read_text()


def test_the_readme_tells_what_the_results_say():
    """Its figure is the demo's, with the demo's sentence."""
    told = (ROOT / "results" / "demo.txt").read_text().strip().splitlines()[-1]
    assert f"![{told}](results/demo.png)" in README


def test_the_readme_tells_what_was_measured():
    """The report's figure with its sentence, and its verdict, which is what the committed runs say now."""
    folder = ROOT / "results" / "compare"
    report = (folder / "report.md").read_text()
    figure = re.search(r"!\[(.+?)\]\(report/(cpu-sentiment-costs.png)\)", report)
    assert f"![{figure[1]}](results/compare/report/{figure[2]})" in README
    table = next(table for table in read_tables(folder) if table.task == "sentiment")
    assert f"\n{verdict(table)}\n" in report, "make the report again: compare report --results results/compare"
    assert verdict(table).removeprefix("Of ") in " ".join(README.split())
    for table in read_tables(folder):
        made = rf"(From|;) {len(table.runs)} runs of {re.escape(table.setting)}; "  # few examples share one line
        assert re.search(made, report), "make the report again"


def test_the_readme_code_runs_and_prints_what_it_says(asset, tmp_path, monkeypatch, capsys):
    """All of it but the training, which takes half a minute; so the last line, the accuracy, is another."""
    asset("minilm"), asset("reviews")
    monkeypatch.chdir(tmp_path)
    code, printed = re.search(r"```python\n(.*?)```\s+```\n(.*?)```", README, re.S).groups()
    assert len([line for line in code.splitlines() if line]) <= 12
    code = code.replace('data["train"]', 'data["train"][:32]').replace('data["test"]', 'data["test"][:64]')
    exec(code, {})
    out = [line for line in capsys.readouterr().out.strip().splitlines() if not line.startswith("training: step")]
    assert out[:-1] == printed.strip().splitlines()[:-1]
    assert (tmp_path / "reviews.safetensors").exists()
