"""Intervals that cover the truth, verdicts against a margin, and many comparisons at once."""

import pytest
import torch

from peft_from_scratch.compare.runs import Run
from peft_from_scratch.compare.statistics import best_on_dev, differences, headline, multiplicity
from peft_from_scratch.measure.intervals import as_scores, bootstrap, equivalence, holm, p_of, paired, resampled


def test_the_interval_covers_seeds_and_items():
    items = torch.rand(3, 400, generator=torch.Generator().manual_seed(0)) < 0.8
    found = bootstrap(items)
    assert found.low < found.mean < found.high and 0.02 < found.high - found.low < 0.08
    apart = torch.stack([torch.ones(400), torch.zeros(400)]).bool()  # the seeds differ, so three items say little
    assert bootstrap(apart).high - bootstrap(apart).low > 0.9
    assert paired(items, items) == (0.0, 0.0, 0.0)


def two_methods(g, seeds=5, items=200, spread=0.03):
    """Equally good on all texts there are; on each text one is better; some seeds are lucky."""
    easy = 0.75 + 0.15 * torch.randn(1, items, generator=g)

    def method():
        skill = spread * torch.randn(seeds, 1, generator=g) + 0.15 * torch.randn(1, items, generator=g)
        return (torch.rand(seeds, items, generator=g) < easy + skill).double()

    return method() - method()


def test_seeds_and_items_cover_the_truth_and_seeds_alone_do_not():
    """The interval says 95 %. Over 400 simulations: both 98 %, seeds alone 74 %."""
    g, both, alone, trials = torch.Generator().manual_seed(1), 0, 0, 120
    for _ in range(trials):
        difference = two_methods(g)
        low, high = bootstrap(difference, draws=200)[1:]
        both += low <= 0 <= high
        low, high = bootstrap(difference.mean(1, keepdim=True), draws=200)[1:]
        alone += low <= 0 <= high
    assert 0.91 <= both / trials <= 1
    assert alone / trials < 0.85


def scores(rate, seeds=5, items=5000, seed=0):
    return torch.rand(seeds, items, generator=torch.Generator().manual_seed(seed)) < rate


def test_the_three_verdicts():
    a = scores(0.8)
    assert equivalence(a, a).word == "equivalent"
    worse = a & (torch.rand(a.shape, generator=torch.Generator().manual_seed(1)) < 0.95)
    verdict = equivalence(worse, a)
    assert verdict.word == "not equivalent" and verdict.difference.high < -0.01 and verdict.margin == 0.01
    assert equivalence(scores(0.8, items=200), scores(0.8, items=200, seed=1)).word == "not decided"
    assert equivalence(worse, a, margin=0.2).word == "equivalent"
    with pytest.raises(ValueError, match="margin"):
        equivalence(a, a, margin=0)


def test_p_values_and_holm():
    a = scores(0.8, items=500)
    worse = a & (torch.rand(a.shape, generator=torch.Generator().manual_seed(1)) < 0.9)
    p = [p_of(resampled(x.double() - a.double(), 999)[1]) for x in (a, worse)]
    assert p == [1.0, pytest.approx(2 / 1000)]
    # Holm (1979) by hand: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.5
    found = holm({"a": 0.01, "b": 0.5, "c": 0.03, "d": 0.02})
    assert found == pytest.approx({"a": 0.04, "d": 0.06, "c": 0.06, "b": 0.5}) and list(found) == ["a", "b", "c", "d"]


def test_chance_results_survive_holm_about_one_time_in_twenty():
    """Twenty rows without any difference: uncorrected, some row is nearly always below 0.05."""
    rows, tables, fooled, corrected = 20, 400, 0, 0
    g = torch.Generator().manual_seed(0)
    for _ in range(tables):
        p = torch.rand(rows, generator=g).tolist()
        fooled += min(p) < 0.05
        corrected += min(holm({str(i): value for i, value in enumerate(p)}).values()) < 0.05
    assert fooled / tables > 0.5 and corrected / tables < 0.09


def test_balanced_accuracy_counts_classes_alike():
    labels = torch.tensor([0] * 90 + [1] * 10)
    always_0 = (labels == 0).expand(3, -1)
    assert bootstrap(always_0).mean == pytest.approx(0.9)
    assert bootstrap(always_0, groups=labels) == pytest.approx((0.5, 0.5, 0.5))
    some = always_0 | (torch.arange(100) > 94)
    found = bootstrap(some, groups=labels)
    assert found.mean == pytest.approx(0.75) and found.low < 0.65 and found.high > 0.8


def test_items_of_stored_runs():
    assert as_scores(["011", "110"]).tolist() == [[False, True, True], [True, True, False]]
    assert as_scores([[0.5, 1.0]]).dtype == torch.float32
    with pytest.raises(ValueError, match="different numbers of items"):
        as_scores(["011", "01"])


def runs_of(method, rate, dev, seeds=5, split="test"):
    """Runs whose items the seed of the text decides, so that methods are paired."""
    easy = torch.rand(1, 5000, generator=torch.Generator().manual_seed(0))
    for seed in range(seeds):
        noise = 0.02 * torch.randn(5000, generator=torch.Generator().manual_seed(100 + seed))
        items = "".join(str(int(c)) for c in (easy[0] + noise < rate))
        metrics = {"accuracy": rate, "log_loss": dev, "dev_log_loss": dev}
        yield Run("t", method, "x", seed, 1e-3, split, "done", "", "", metrics, items, steps=1)


RUNS = [
    *runs_of("full", 0.80, 0.40),
    *runs_of("near", 0.802, 0.41),
    *runs_of("far", 0.70, 0.60),
    *runs_of("best of all", 0.81, 0.30, seeds=3),
    *runs_of("only searched", 0.99, 0.1, split="dev"),
]
COSTS = {m: {"numbers": n, "total": 1000} for m, n in {"full": 1000, "near": 3, "far": 20, "best of all": 21}.items()}


def test_every_method_against_full():
    found = differences(RUNS, draws=400)
    assert list(found) == ["near", "far", "best of all"] and found["best of all"].seeds == 3
    assert found["far"].interval.mean == pytest.approx(-0.1, abs=0.02) and found["far"].adjusted < 0.05
    assert all(d.adjusted >= d.p for d in found.values())
    assert multiplicity(found).startswith("3 methods are compared with full: about 0.15 would differ")
    with pytest.raises(ValueError, match="no finished test run of 'full'"):
        differences(runs_of("near", 0.8, 0.4))


def test_the_headline_is_chosen_on_dev_among_small_methods():
    assert best_on_dev(RUNS, COSTS) == ("near", 0.003, 2), "2.1 % of the numbers is too many"
    found = headline(RUNS, COSTS)
    assert (found.method, found.seeds, found.candidates) == ("near", 5, 2) and found.verdict.word == "equivalent"
    assert headline(RUNS, COSTS | {"near": {"note": "no costs"}}).verdict.word == "not equivalent"
    with pytest.raises(ValueError, match="at most 2%"):
        best_on_dev(RUNS, {})
