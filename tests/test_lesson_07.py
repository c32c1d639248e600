"""Lesson 07: its exercises agree with the package, and its saved runs hold what it says.

What every lesson does stands in test_lessons.py.
"""

import math

import numpy as np
import pytest
import torch
from figure_rules import violations

from peft_from_scratch import plots, widgets
from peft_from_scratch.check import calibration, grade, lesson, predict, reveal
from peft_from_scratch.check.audit import scratch
from peft_from_scratch.check.comparison_promises import BOUNDS, at_best_rates, below, knowledge, measured
from peft_from_scratch.check.grading import execute
from peft_from_scratch.compare.claims.forgetting import front
from peft_from_scratch.compare.extract import extract, kept, kept_losses, kept_runs, league, pack, unpack
from peft_from_scratch.compare.rates import half_decade, next_rates
from peft_from_scratch.compare.report.figures import frontier
from peft_from_scratch.compare.report.rows import Row
from peft_from_scratch.compare.runs import Run
from peft_from_scratch.course import saved
from peft_from_scratch.measure.intervals import Interval, equivalence, holm, paired
from peft_from_scratch.plots.labels import spread
from peft_from_scratch.plots.predictions import share_interval

LESSON = lesson("07")
TASKS = {task.name: task for task in LESSON.exercises}


def names():
    """What the notebook has made before the promises."""
    found, few = saved("07_promises"), {}
    for size, part in ((64, kept_runs("07_low_64")), (2000, kept_runs("07_sentiment"))):
        few[size] = tuple(paired(part["LoRA"].correct, part["full"].correct))
    low, mean, high = knowledge()
    made = {"costs": found["costs"], "latency": found["latency"], "switch": found["switch"], "few": few}
    return made | {"kept_knowledge": (mean, low, high), "below": below}


NAMES = names  # made when they are first needed


@pytest.fixture(scope="module")
def made():
    return names()


def reference(name, made=None):
    task = TASKS[name]
    space = execute(task.reference, scratch(task, made or names()), name)
    return space[task.names[0]] if len(task.names) == 1 else tuple(space[each] for each in task.names)


# --- the references are the package's functions


def two_methods(seeds=5, items=800):
    torch.manual_seed(0)
    hard = torch.randn(items)
    return [hard + 0.8 + 0.3 * torch.randn(items) + 0.1 * torch.randn(seeds, 1) > 0 for _ in range(2)]


def test_bootstrap_is_the_package_interval():
    a, b = two_methods()
    mean, low, high = reference("compare.bootstrap")(a, b, 3000)
    want = paired(a, b, 3000)
    assert mean == pytest.approx(want.mean)
    assert (high - low) / (want.high - want.low) == pytest.approx(1, abs=0.07)
    assert (low + high) / 2 == pytest.approx((want.low + want.high) / 2, abs=0.1 * (want.high - want.low))


WORDS = {"equivalent": "yes", "not equivalent": "no", "not decided": "not decided"}


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("shift", [0, 1])
def test_equivalent_is_the_package_verdict(margin, shift):
    a, b = two_methods()
    if shift:
        a = a & (torch.rand(a.shape[1]) > 0.1)
    found = equivalence(a, b, margin, draws=400)
    assert reference("compare.equivalent")(found.difference.low, found.difference.high, margin) == WORDS[found.word]


def test_the_grid_is_the_package_grid():
    grid, interior = reference("compare.grid")
    for low, high in ((-10, -4), (-7, -6), (-3, 2)):
        rates = grid(half_decade(low), half_decade(high))
        assert rates == pytest.approx([half_decade(k) for k in range(low, high + 1)], rel=1e-5)
    for best in (-6, -5, -4):
        tried = {half_decade(k): dev_run(half_decade(k), abs(k - best)) for k in (-6, -5, -4)}
        ended = next_rates(half_decade(-5), tried) == []
        assert interior(half_decade(best), list(tried)) == ended


def dev_run(lr, loss):
    return Run("t", "m", "f", 0, lr, "dev", "done", "s", metrics={"log_loss": float(loss), "accuracy": 0.5})


def test_pareto_is_the_package_frontier_where_nothing_ties():
    rng = np.random.default_rng(0)
    rows = [{"name": f"m{i}", "quality": q, "cost": c} for i, (q, c) in enumerate(rng.random((30, 2)).tolist())]
    scored = [Row(r["name"], "", "", Interval(r["quality"], 0, 1)) for r in rows]
    theirs = frontier(scored, {r["name"]: r["cost"] for r in rows}, up=True)
    assert set(reference("compare.pareto")(rows)) == {row.method for row in theirs}


def test_forgetting_at_is_the_package_interpolation():
    tried = {10.0**-k: dev_run(10.0**-k, loss) for k, loss in ((5, 3.3), (4, 3.1), (3, 3.2))}
    for other, run in zip((4.1, 4.3, 5.0), tried.values(), strict=True):
        run.metrics["other_loss"] = other
    task, other = front(tried)
    at = reference("compare.forgetting")
    curve = list(zip(task, other, strict=True))
    for score in (3.12, 3.2, 3.29):
        assert at(score, curve) == pytest.approx(np.interp(score, task[::-1], other[::-1]))


def test_holm_is_the_package_correction():
    p = {f"m{i}": value for i, value in enumerate(np.random.default_rng(1).random(20) ** 3)}
    assert reference("compare.holm")(p) == pytest.approx(holm(p))


def test_the_knowledge_of_the_check_is_that_of_the_exercise():
    """The notebook's way, with the learner's function, gives the check's number."""
    at, losses = reference("compare.forgetting"), kept_losses()
    found = {}
    for method, sides in losses.items():
        task, other = (side.mean((1, 2)).tolist() for side in sides)
        found[method] = list(zip(task, other, strict=True))[: task.index(min(task)) + 1]
    score = max(min(curve)[0] for curve in found.values())
    assert at(score, found["LoRA"]) - at(score, found["full"]) == pytest.approx(knowledge()[1], abs=1e-5)


def test_so_is_its_interval():
    """Resampled curves need not rise from rate to rate; the check reads them off as the exercise does."""
    at, losses = reference("compare.forgetting"), kept_losses()
    _, seeds, blocks = losses["full"][0].shape
    torch.manual_seed(0)
    some = []
    for _ in range(500):
        s, t = torch.randint(seeds, (seeds,)), torch.randint(blocks, (blocks,))
        means = {m: [side[:, s][:, :, t].mean((1, 2)).tolist() for side in both] for m, both in losses.items()}
        found = {m: list(zip(x, y, strict=True))[: x.index(min(x)) + 1] for m, (x, y) in means.items()}
        score = max(min(curve)[0] for curve in found.values())
        some.append(at(score, found["LoRA"]) - at(score, found["full"]))
    assert (knowledge()[0], knowledge()[2]) == pytest.approx(np.quantile(some, [0.025, 0.975]), abs=0.01)


# --- other right answers, nonsense, somebody late


def with_body(name, old, new):
    assert old in TASKS[name].reference
    return name, TASKS[name].reference.replace(old, new)


OTHER_RIGHT_ANSWERS = {
    "numpy's generator": ("compare.bootstrap", "import numpy as np\n\n\n"
        "def bootstrap(correct_a, correct_b, draws=1000):\n"
        "    d, rng = (correct_a.double() - correct_b.double()).numpy(), np.random.default_rng()\n"
        "    S, N = d.shape\n"
        "    m = [d[rng.choice(S, S)][:, rng.choice(N, N)].mean() for _ in range(draws)]\n"
        "    return [d.mean(), *np.percentile(m, [2.5, 97.5])]"),
    "by the normal law": with_body("compare.bootstrap", "return difference.mean().item(), low.item(), high.item()",
        "half = 1.96 * means.std().item()\n    m = difference.mean().item()\n    return m, m - half, m + half"),
    "python's random": with_body("compare.bootstrap", "s = torch.randint(seeds, (seeds,))",
        "import random\n        s = random.choices(range(seeds), k=seeds)"),
    "multinomial": with_body("compare.bootstrap", "t = torch.randint(items, (items,))",
        "t = torch.multinomial(torch.ones(items), items, replacement=True)"),
    "tensors, the mean of the draws": with_body("compare.bootstrap",
        "return difference.mean().item(), low.item(), high.item()", "return [means.mean(), low, high]"),
    "by counts": with_body("compare.bootstrap", "means[i] = difference[s][:, t].mean()",
        "w = torch.bincount(t, minlength=items).double() / items\n        means[i] = (difference[s] @ w).mean()"),
    "nested ifs": ("compare.equivalent", "def equivalent(low, high, margin):\n    if low > margin: return 'no'\n"
        "    if high < -margin: return 'no'\n    if abs(low) < margin and abs(high) < margin: return 'yes'\n"
        "    return 'not decided'"),
    "1, 3, 10": ("compare.grid", "def grid(lo, hi):\n    out = [lo]\n    while out[-1] < 0.9 * hi:\n"
        "        out.append(out[-1] * 3.1622776601683795)\n    return out\n\n\n"
        "def interior(best, grid):\n    s = sorted(grid)\n    return best in s[1:-1]"),
    "logspace": ("compare.grid", "import numpy as np\n\n\ndef grid(lo, hi):\n"
        "    return np.geomspace(lo, hi, int(round(2 * np.log10(hi / lo))) + 1)\n\n\n"
        "def interior(best, grid):\n    return any(g < best for g in grid) and any(g > best for g in grid)"),
    "a string": ("compare.order", "order = 'fchad'"),
    "by hand": ("compare.pareto", "def pareto(rows):\n    keep = []\n    for a in rows:\n        ok = True\n"
        "        for b in rows:\n            up, down = b['quality'] - a['quality'], a['cost'] - b['cost']\n"
        "            if up >= 0 and down >= 0 and up + down > 0:\n                ok = False\n"
        "        if ok:\n            keep.append(a['name'])\n    return keep"),
    "sorted by cost": ("compare.pareto", "def pareto(rows):\n    best = {}\n    for r in rows:\n"
        "        best[r['cost']] = max(best.get(r['cost'], -1e9), r['quality'])\n"
        "    return [r['name'] for r in rows if r['quality'] == best[r['cost']]\n"
        "            and all(q < r['quality'] for c, q in best.items() if c < r['cost'])]"),
    "np.interp": ("compare.forgetting", "import numpy as np\n\n\ndef forgetting_at(score, curve):\n"
        "    x, y = zip(*sorted(curve))\n    if not x[0] <= score <= x[-1]:\n        return None\n"
        "    return float(np.interp(score, x, y))"),
    "by index": ("compare.forgetting", "def forgetting_at(score, curve):\n    points = sorted(curve)\n"
        "    for i in range(len(points) - 1):\n        x0, y0 = points[i]\n        x1, y1 = points[i + 1]\n"
        "        if x0 <= score <= x1:\n            if x0 == x1:\n                return y0\n"
        "            return y0 + (score - x0) * (y1 - y0) / (x1 - x0)"),
    "a set": ("compare.pareto", "def pareto(rows):\n    return {r['name'] for r in rows if not any(\n"
        "        (o['quality'] > r['quality'] and o['cost'] <= r['cost'])\n"
        "        or (o['quality'] >= r['quality'] and o['cost'] < r['cost']) for o in rows)}"),
    "two loops": ("compare.holm", "def holm(p):\n    names = sorted(p, key=lambda k: p[k])\n"
        "    raw = [(len(p) - i) * p[k] for i, k in enumerate(names)]\n"
        "    return {k: min(1.0, max(raw[: i + 1])) for i, k in enumerate(names)}"),
}  # fmt: skip


def test_numbers_may_be_typed_in(made):
    """Read off the printed table, in three digits."""
    found = measured()
    numbers = {promise: float(f"{number:.3g}") for promise, (_, number, _) in found.items()}
    verdicts = {promise: below(found[promise][0], found[promise][2], bound) for promise, bound in BOUNDS.items()}
    assert grade(TASKS["compare.promises"], (numbers, verdicts)).passed


def test_a_number_of_another_question_is_named(made):
    """It differs from the right one by less than the rounding of what is printed."""
    task = TASKS["compare.promises"]
    numbers, verdicts = reference("compare.promises", made)
    result = grade(task, ({**numbers, "preserves knowledge": at_best_rates()}, verdicts))
    assert not result.passed and "own best rate" in result.first_failure


# --- the saved runs: what the text says of them


def test_the_league_is_one_method():
    rows, behind = league()
    assert len(rows) == 12 and sorted(behind.values()) == sorted(f"seed {i}" for i in range(12))
    assert all(len(right) == 3000 for right in rows.values())
    first = {name: right[:1000].double().mean().item() for name, right in rows.items()}
    assert max(first.values()) - min(first.values()) > 0.015  # a gap that somebody would explain
    again = {name: right[1000:].double().mean().item() for name, right in rows.items()}
    assert again[max(first, key=first.get)] > sorted(again.values())[8]  # a good run is good on other reviews, too


def test_the_table_holds_full_and_five_seeds_each():
    runs = kept_runs("07_sentiment")
    assert {"full", "LoRA"} <= runs.keys()
    for run in runs.values():
        assert run.correct.shape == (5, 5000) and run.costs["total"] >= run.costs["numbers"] > 0
        assert run.lr in run.tried and 0.4 < run.accuracy < 0.95


@pytest.mark.parametrize("name", ["null_league", "sentiment", "low_64", "forgetting", "promises", "museum"])
def test_saved_runs_say_how_they_were_made(name):
    found = saved(f"07_{name}")
    assert found["setting"] and found["provenance"]["model_sha256"] and found["provenance"]["torch"]


def test_the_museum_shows_rates_that_lose():
    runs = saved("07_museum")["runs"]
    right = runs["as it should be"]["accuracy"]
    for name, run in runs.items():
        assert len(run["loss"]) == len(run["step"])
        assert name == "as it should be" or (run["accuracy"] < right - 5 and run["shipped"])


def test_promises_are_measured():
    found = measured()
    assert found.keys() == BOUNDS.keys()
    assert all(low <= number <= high for low, number, high in found.values())
    assert found["cuts training cost"][1] == pytest.approx(0.668, abs=0.01)


# --- the extract


def test_bits_come_back():
    items = "0110010111010001110"
    assert "".join(str(int(c)) for c in unpack(pack(items), len(items))) == items


def made_run(method, seed, split, items="", lr=1e-3):
    return Run("t", method, "f", seed, lr, split, "done", "s", metrics={"accuracy": 0.5}, items=items, steps=3)


def test_an_extract_keeps_what_is_finished():
    runs = [made_run("LoRA", 1, "test", "0101"), made_run("LoRA", 0, "test", "1100"), made_run("LoRA", 0, "dev"),
            made_run("DoRA", 0, "dev")]  # fmt: skip
    found = extract(runs, {"LoRA": {"numbers": 4, "total": 8, "flops": 2, "memory": 3, "file": 1, "note": ""}})
    (row,) = found["methods"]
    back = kept(row, found["items"])
    assert back.correct.int().tolist() == [[1, 1, 0, 0], [0, 1, 0, 1]] and back.seeds == (0, 1)
    assert back.tried == {1e-3: 0.5} and back.costs["numbers"] == 4 and back.accuracy == 0.5


def test_an_extract_of_nothing_says_so():
    with pytest.raises(ValueError, match="run the sweep first"):
        extract([made_run("LoRA", 0, "dev")])
    with pytest.raises(ValueError, match="different numbers"):
        extract([made_run("LoRA", 0, "test", "01"), made_run("DoRA", 0, "test", "011")])
    with pytest.raises(FileNotFoundError, match="07_sentiment"):
        kept_runs("07_sentimental")


# --- figures and widget


def row(name, mean, verdict="not decided", rate=2.0):
    return {"name": name, "difference": (mean, mean - 1, mean + 1), "verdict": verdict, "rate": rate}


def test_the_figures_say_what_they_show():
    fig, alt = plots.two_exams({"A": 80.0, "B": 79.0}, {"A": 77.0, "B": 78.0})
    assert "A was first, and stands at place 2" in alt and len(fig.axes) == 1
    fig, alt = plots.against_full([row("LoRA", -0.5), row("head only", -15.0, "no", 0.4)], 1)
    assert "LoRA -0.5 (-1.5 to +0.5), not decided, the rate is worth 2.0" in alt
    rows = [{"name": "full", "quality": 80, "flops": 1.0}, {"name": "LoRA", "quality": 79, "flops": 0.67}]
    fig, alt = plots.front(rows, {"flops": ["full", "LoRA"]})
    assert "by flops: full, LoRA" in alt
    fig, alt = plots.quality_and_forgetting({"full": [(3.4, 4.2), (3.2, 4.3)], "LoRA": [(3.4, 4.2)]}, 3.25)
    assert "full 3.40 and 4.20, 3.20 and 4.30" in alt


def test_labels_stand_apart_around_their_dots():
    places = spread([10.0, 9.0, 5.0, 4.9, 4.8], 0.5)
    assert places == pytest.approx([10, 9, 5.4, 4.9, 4.4])
    assert spread([3.0, 3.0, 2.9], 1.0) == pytest.approx([3.967, 2.967, 1.967], abs=0.001) and spread([], 1) == []


def rounds(name, guess, low, high, actual):
    predict(name, guess, (low, high))
    reveal(name, actual)


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))


def drawn():
    """The notebook's last figure, its sentence, and the shares that it shows in words."""
    fig, alt = plots.calibration(calibration().places())
    plots.as_html(fig, alt)  # drawn, for the rules are about what is drawn
    assert violations(fig) == []
    return fig, alt, [text.get_text() for text in fig.axes[1].texts]


def test_no_prediction_is_no_verdict(log):
    fig, alt, shares = drawn()
    assert alt.startswith("No prediction has been compared yet") and shares == ["0 of 0"]
    assert [text.get_text() for text in fig.axes[0].texts] == ["no prediction compared yet"]


def test_one_prediction_is_no_verdict(log):
    rounds("00.share", 5, 2, 10, 0.3)
    fig, alt, shares = drawn()
    assert "0 of 1, 0 % (95 % interval 0 to 9" in alt and "does not show" in alt and "below: 1" in alt
    assert shares == ["0 of 1"] * 2 and [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["00", "all"]


def test_many_predictions_are_judged(log):
    for i in range(12):
        rounds(f"01.p{i}", 5, 4, 6, 5.5 if i < 4 else 7 + 10 * i)
    rounds("00.point", 5, 5, 5, 5)
    rounds("07.point", 5, 5, 5, 4)
    _, alt, shares = drawn()
    assert shares == ["1 of 1", "4 of 12", "0 of 1", "5 of 14"]
    assert "your ranges are too narrow" in alt and "Results above their range: 8, below: 1" in alt
    assert calibration().places()["01"][0] == pytest.approx(0.5) and calibration().places()["07"] == [-math.inf]


def test_wide_ranges_are_judged(log):
    for i in range(25):
        rounds(f"02.p{i}", 5, -100, 100, 5)
    assert "wider than they need to be" in drawn()[1]


def test_the_interval_of_a_share_is_exact():
    """Clopper and Pearson's table; and by its definition: so many, or more, come in 2.5 % of cases at its lower end."""
    assert share_interval(7, 10) == pytest.approx((0.3475, 0.9333), abs=1e-4)
    assert share_interval(0, 5) == pytest.approx((0, 1 - 0.025 ** (1 / 5))) and share_interval(5, 5)[1] == 1
    low, _ = share_interval(3, 8)
    assert sum(math.comb(8, i) * low**i * (1 - low) ** (8 - i) for i in range(3, 9)) == pytest.approx(0.025)


def test_the_luck_is_what_a_bootstrap_sees():
    a, b = two_methods(seeds=8, items=2000)
    luck = widgets.luck_of(a.double() - b.double())
    found = paired(a, b, 2000)
    assert widgets.half_width(luck, 8, 2000) == pytest.approx((found.high - found.low) / 2, rel=0.2)
    assert widgets.half_width(luck, 8, 10**9) > 0  # the luck of the seeds stays


def test_more_items_decide(capsys):
    a, b = two_methods(seeds=8, items=2000)
    widgets.resolution_explorer(100 * (a.double() - b.double()))
    assert "5 seeds, 1,000 test items" in capsys.readouterr().out
    _, alt = plots.resolution(0.2, 0.5, 1.0, 5, 9000)
    assert alt.endswith("Yes.")
    assert plots.resolution(0.2, 1.5, 1.0, 5, 100)[1].endswith("Not decided.")
    assert plots.resolution(-3.0, 1.5, 1.0, 5, 100)[1].endswith("No.")
