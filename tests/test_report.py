"""The report, from made-up lines: what it says, that it needs nothing but itself, and what it does without runs."""

import re
from argparse import Namespace
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import synthetic_runs as made_up
from figure_rules import violations

from peft_from_scratch.compare import report
from peft_from_scratch.compare.report import figures, maps, others
from peft_from_scratch.compare.report.figures import frontier
from peft_from_scratch.compare.report.read import read_tables
from peft_from_scratch.compare.report.rows import Row, cells, rows_of
from peft_from_scratch.compare.report.sections import sections, verdict
from peft_from_scratch.measure.intervals import Interval
from peft_from_scratch.plots import as_html

DRAWS = 40


@pytest.fixture(autouse=True)
def no_other_results(monkeypatch, tmp_path):
    monkeypatch.setattr(others, "RESULTS", tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with every kind of table, and the report that was written beside them."""
    folder = tmp_path_factory.mktemp("results")
    made_up.everything(folder)
    report.write(folder, folder, read_tables(folder), DRAWS)
    return folder


def sentiment(folder):
    return next(table for table in read_tables(folder) if table.task == "sentiment")


# ---- what is read


def test_tables_are_apart_by_task_setting_and_device(tmp_path):
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", made_up.classification())
    other = [replace(run, setting="other") for run in made_up.classification() if not isinstance(run, dict)][:3]
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", other)
    made_up.write(tmp_path / "some-gpu" / "style.jsonl", made_up.language())
    found = [(table.device, table.task, len(table.runs)) for table in read_tables(tmp_path)]
    assert found[1:] == [("cpu", "sentiment", 3), ("some-gpu", "style", 22)] and found[0][2] > 40
    titles = [part.title for part in sections(tmp_path, read_tables(tmp_path), DRAWS)]
    assert titles[:3] == ["sentiment on cpu", "sentiment-2 on cpu", "style on some-gpu"]


def test_a_line_that_is_being_written_waits(tmp_path):
    path = tmp_path / "cpu" / "sentiment.jsonl"
    made_up.write(path, made_up.classification())
    whole = len(sentiment(tmp_path).runs)
    with path.open("a") as file:
        file.write('{"kind": "run", "meth')
    assert len(sentiment(tmp_path).runs) == whole
    assert path.read_text().endswith('"meth'), "reading changes nothing"


# ---- rows


def test_rows_from_the_best_to_the_failed(folder):
    table = sentiment(folder)
    rows = rows_of(table, DRAWS)
    assert rows[0].method == "full" and rows[0].difference is None
    assert [r.method for r in rows][-2:] == ["majority class", "prefix"]
    scores = [row.score.mean for row in rows if row.trained]
    assert scores == sorted(scores, reverse=True) and len(scores) == len(made_up.METHODS)
    bitfit = next(row for row in rows if row.method == "BitFit")
    assert bitfit.difference.interval.high < 0 and bitfit.rate == pytest.approx(3.16e-3, rel=0.01)
    assert len(bitfit.seeds) == 3 and bitfit.time == pytest.approx((0.776, 0.756, 0.786))
    assert rows[-1].note == "cannot: no cache <here>" and rows[-1].score is None
    table = cells(rows, "accuracy")
    assert table[0][1] == "accuracy" and {len(line) for line in table} == {len(table[0])}
    assert table[-1][1] == "failed" and table[-1][-1] == "cannot: no cache <here>"
    times = {line[0]: line[table[0].index("time / full")] for line in table}
    assert times["LoRA"] == "0.77 [0.75, 0.78]" and times["Pfeiffer"] == times["prefix"] == ""


def test_a_method_without_test_runs_says_how_far_it_is(tmp_path):
    lines = [run for run in made_up.classification() if isinstance(run, dict) or run.split == "dev"]
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", lines)
    rows = rows_of(sentiment(tmp_path), DRAWS)
    assert not [row for row in rows if row.score]
    assert {row.note.split(":")[0] for row in rows} == {"nan", "cannot"}
    done = [run for run in lines if not isinstance(run, dict) and run.done]
    made_up.write(tmp_path / "cpu" / "spam.jsonl", done)
    assert "not on test yet: 3 runs on dev" in {r.note for r in rows_of(read_tables(tmp_path)[1], DRAWS)}


def test_losses_are_better_when_lower(folder):
    table = next(table for table in read_tables(folder) if table.task == "style")
    assert table.name == "log-loss" and table.groups is None
    rows = rows_of(table, DRAWS)
    assert [row.method for row in rows] == ["full", "LoRA", "LN-tuning", "zero-shot"]
    assert rows[1].difference.interval.low > 0
    assert cells(rows, table.name)[0].count("log-loss") == 1


def test_balanced_accuracy_takes_the_classes(tmp_path):
    runs = [r for r in made_up.classification("spam") if not isinstance(r, dict)]
    runs = [replace(r, metrics=r.metrics | {"balanced_accuracy": 0.6}) for r in runs]
    classes = {"kind": "task", "task": "spam", "setting": runs[0].setting, "labels": "01" * 100}
    made_up.write(tmp_path / "cpu" / "spam.jsonl", [*runs, classes])
    (table,) = read_tables(tmp_path)
    assert table.name == "balanced accuracy" and table.groups.tolist() == [0, 1] * 100


def test_the_frontier_is_what_no_cheaper_row_equals():
    rows = [Row(name, "x", "", Interval(score, 0, 1)) for name, score in dict(a=0.5, b=0.7, c=0.6, d=0.8).items()]
    price = dict(a=1, b=2, c=3, d=3)
    assert [row.method for row in frontier(rows, price, up=True)] == ["a", "b", "d"]
    assert [row.method for row in frontier(rows, price, up=False)] == ["a"]


# ---- what it says


def test_the_verdict_names_the_best_on_dev_and_its_interval(folder):
    words = verdict(sentiment(folder))
    assert re.search(r"Of 5 methods .* DoRA \(0\.43%\) was the best on dev", words)
    assert re.search(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\] over 3 seeds: (not )?(equivalent|decided)", words)
    assert "margin of 0.010 set before" in words


def test_without_full_or_costs_there_is_no_verdict(tmp_path):
    lines = [line for line in made_up.classification() if isinstance(line, dict) or line.method != "full"]
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", lines)
    assert "No verdict yet" in verdict(sentiment(tmp_path))
    rows = rows_of(sentiment(tmp_path), DRAWS)
    assert all(row.difference is None for row in rows) and rows[0].score


def test_the_sections_and_their_figures(folder):
    parts = {part.title: part for part in sections(folder, read_tables(folder), DRAWS)}
    names = [name for part in parts.values() for name, *_ in part.figures]
    kinds = ("scores", "costs", "time", "rates")
    assert {f"cpu-sentiment-{kind}" for kind in kinds} | {"cpu-style-forgetting", "cpu-few-examples"} <= set(names)
    assert "cpu-claims-low-1000-ranks-0" in names and len(names) == len(set(names))
    for part in parts.values():
        for name, fig, alt in part.figures:
            assert len(alt.split()) > 12 and alt.endswith("."), name
            as_html(fig, alt)
            assert violations(fig) == [], name
    multiple = parts["sentiment on cpu"].words[1]
    assert multiple.startswith("6 methods are compared with full")
    assert "0.0 commit abc" in parts["sentiment on cpu"].source
    (_, table), (_, behind) = parts["few examples on cpu"].tables
    assert table[0] == behind[0] == ["method", "16", "256", "2,000"] and len(table[1]) == 4, "sentiment's as well"
    assert "full" not in [line[0] for line in behind] and len(behind) == len(table) - 2  # full, majority class
    assert all(cell[0] in "+-" for line in behind[1:] for cell in line[1:])


def test_what_a_step_takes_is_told(folder):
    text = (folder / "report.md").read_text()
    assert "LoRA: 67.0 % of the FLOPs, 77.0 % of the time, 44.0 % of the bytes." in text
    rows = [row for row in rows_of(sentiment(folder), DRAWS) if row.method == "Pfeiffer"]
    fig, alt = figures.time_and_memory(rows)
    assert violations(fig) == [] and "time, measured by turns" in alt and "LoRA:" not in alt


def test_the_best_rates_are_told(folder):
    fig, alt = maps.rate_map(sentiment(folder).searched())
    assert "from 1e-4 (full) to 3e-1 (prompt)" in alt
    assert [maps.short(lr) for lr in (1e-4, 0.00316228, 0.1, 1.0, 3.16228)] == ["1e-4", "3e-3", "1e-1", "1e0", "3e0"]


def test_rates_that_were_not_searched_are_named(tmp_path):
    lines = [r for r in made_up.classification() if isinstance(r, dict) or (r.method, r.split) != ("LoRA", "dev")]
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", lines)
    part = next(sections(tmp_path, read_tables(tmp_path), DRAWS))
    assert "At rates that were not searched here: LoRA." in part.words
    tested = [r for r in lines if isinstance(r, dict) or r.split == "test"]
    made_up.write(tmp_path / "other" / "sentiment.jsonl", tested)
    part = next(sections(tmp_path / "other", read_tables(tmp_path)[1:], DRAWS))
    assert "At rates that were not searched here: all." in part.words


def test_libraries_and_claims_are_told(folder):
    text = (folder / "report.md").read_text()
    assert "median 0.98, from 0.95 (LoRA) to 1.01 (DoRA)" in text and "peft 9.9" in text
    assert "| LoRA | 0.7900 | 0.7900 | 1.0000 | 0.0e+00 | 125 |  |" in text
    assert "Of 2 claims of the literature 1 held, 0 not held, 1 not decided." in text
    assert "| It is so | certain | held | 1 of 1 |" in text


def test_forgetting_is_told_at_the_lowest_loss(folder):
    text = (folder / "report.md").read_text()
    assert "LN-tuning +0.100, LoRA +0.200, full +0.300" in text


# ---- the page


class Page(HTMLParser):
    """Collects tags, ids and where the page would look for anything."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.asked = [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.asked += [named[key] for key in ("src", "href", "xlink:href", "srcset") if key in named]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "br", "img", "link"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert all(where.startswith("#") for where in page.asked) and "@import" not in text and "url(http" not in text
    assert {where[1:] for where in page.asked} <= set(page.ids), "every link and marker of a figure is on the page"
    assert "no cache &lt;here&gt;" in text and "<here>" not in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert text.count('<svg role="img" aria-labelledby=') == text.count("<figcaption") > 8
    assert "currentColor" in text and "<script" not in text


def test_markdown_has_the_same_figures_with_their_words(folder):
    text = (folder / "report.md").read_text(encoding="utf-8")
    told = re.findall(r"!\[(.+?)\]\(report/(.+?\.png)\)", text)
    assert len(told) > 8 and all((folder / "report" / name).stat().st_size > 3000 for _, name in told)
    for line in (line for line in text.splitlines() if line.startswith("| LoRA")):
        assert line.count("|") >= 4


def test_the_same_runs_give_the_same_files(tmp_path):
    made_up.write(tmp_path / "runs" / "cpu" / "style.jsonl", made_up.language())
    found = []
    for name in "ab":
        report.write(tmp_path / name, tmp_path / "runs", read_tables(tmp_path / "runs"), DRAWS)
        found.append({f.name: f.read_bytes() for f in (tmp_path / name).rglob("*") if f.is_file()})
    assert found[0] == found[1] and len(found[0]) > 4


# ---- the command


def test_without_runs_it_says_how_to_make_some(tmp_path, capsys):
    assert report.run(Namespace(results=tmp_path, out=None)) == 2
    assert "there are no runs" in capsys.readouterr().out


def test_where_it_cannot_write_it_says_so(folder, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(report, "sections", lambda *a, **k: [])
    assert report.run(Namespace(results=folder, out=tmp_path / "file")) == 2
    assert "cannot be written" in capsys.readouterr().out
