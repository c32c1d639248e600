"""The claims, on made-up lines on both sides of each verdict; the exact ones for real; missing runs; the command."""

import json
from argparse import ArgumentParser
from dataclasses import replace

import pytest
import synthetic_runs as made_up
import torch

from peft_from_scratch.compare import cli
from peft_from_scratch.compare.claims import CLAIMS, algebra, chosen_claims, counted, forgetting, made, swept, trained
from peft_from_scratch.compare.claims.claim import EXPECTED, Missing, lies, over_seeds, together
from peft_from_scratch.compare.claims.evidence import Evidence, Experiment, Ladder
from peft_from_scratch.compare.claims.experiments import RANK, SEEDS, lora
from peft_from_scratch.compare.rates import half_decade
from peft_from_scratch.compare.sweep import Plan
from peft_from_scratch.compare.tasks import TASKS
from peft_from_scratch.measure import intervals
from peft_from_scratch.measure.intervals import Interval


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    whole = intervals.resampled
    monkeypatch.setattr(intervals, "resampled", lambda scores, draws, *more: whole(scores, min(draws, 200), *more))


class MadeUp(Evidence):
    """As if these were the runs of every experiment, or (`by_batch`) of those with batches of that size."""

    def __init__(self, runs=(), by_batch=None, full=None, values=None):
        self.runs, self.by_batch, self.full, self.values = list(runs), by_batch, full, values
        self.machine = None

    def made(self, experiment):
        return self.by_batch[experiment.task.batch] if self.by_batch else self.runs

    def items(self, task, *methods):
        return (self.full,)

    def measured(self, task, what, key, make):
        return self.values[tuple(key)]


def scores(method, accuracy, task="sentiment", seeds=5, n=1500):
    """Test runs of a method."""
    for seed in range(seeds):
        yield made_up.run(task, method, "x", seed, 1e-3, "test", 0.5, accuracy, made_up.bits(seed, accuracy, n))


def losses(method, mean, seeds=5, n=60):
    for seed in range(seeds):
        items = [mean + 0.01 * seed + 0.02 * (i % 7) for i in range(n)]
        yield made_up.run("style", method, "x", seed, 1e-3, "test", mean, items=items)


def swept_evidence(folder, task="sentiment", **accuracies):
    lines = [run for name, accuracy in accuracies.items() for run in scores(name.replace("_", " "), accuracy, task)]
    made_up.write(folder / "cpu" / f"{task}.jsonl", lines)
    return Evidence(folder)


# ---- verdicts


def test_a_verdict_needs_all_of_the_interval():
    assert lies(Interval(0, -1, 1), -2, 2) == "held"
    assert lies(Interval(3, 2.5, 3.5), -2, 2) == lies(Interval(-3, -3.5, -2.5), -2, 2) == "not held"
    assert lies(Interval(2, 1, 3), -2, 2) == "not decided"
    assert together(["held", "not decided"]) == "not decided" and together(["not held", "held"]) == "not held"
    found = over_seeds([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.high - 2 == pytest.approx(4.303 / 3**0.5)
    with pytest.raises(ValueError, match="2 to 5"):
        over_seeds([1.0])


def test_every_claim_says_itself_in_a_sentence():
    assert len(CLAIMS) >= 25 and {c.expected for c in CLAIMS.values()} == set(EXPECTED)
    for name, claim in CLAIMS.items():
        assert len(claim.text.split()) > 4 and "\n" not in claim.text and claim.source, name
    places = [EXPECTED.index(c.expected) for c in CLAIMS.values()]
    assert places == sorted(places)


# ---- exact


@pytest.mark.parametrize("claim", algebra.ALGEBRA, ids=lambda c: c.name)
def test_what_algebra_decides_holds(claim):
    assert claim.test(MadeUp()).verdict == "held", claim.test(MadeUp())


def test_what_is_counted_holds(monkeypatch):
    monkeypatch.setattr(counted, "COUNTS", {k: counted.COUNTS[k] for k in ("LoRA", "BitFit", "top layer")})
    monkeypatch.setattr(counted, "FLOPS", {k: counted.FLOPS[k] for k in ("VeRA", "head only")})
    for claim in counted.COUNTED:
        assert claim.test(MadeUp()).verdict == "held", claim.test(MadeUp())
    monkeypatch.setattr(counted, "COUNTS", {"LoRA": 1})
    monkeypatch.setattr(counted, "FLOPS", {"VeRA": 0.668})
    assert counted.counts(MadeUp()) == ("not held", "differ: LoRA 73,728 (formula 1)")
    assert counted.flops(MadeUp()).verdict == "not held"


def test_a_merge_that_drops_the_scale_is_found(monkeypatch):
    change = algebra.LoRA.change
    monkeypatch.setattr(algebra.LoRA, "change", lambda self: 1.01 * change(self))
    assert algebra.merging(MadeUp()).verdict == algebra.gradients(MadeUp()).verdict == "not held"


def test_an_adapter_that_starts_at_random_is_found(monkeypatch):
    class Random(algebra.LoRA):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            torch.nn.init.normal_(self.B)

    lora = replace(algebra.CONTESTANTS["LoRA"], change=lambda m: algebra.inject(m, {r".*\.query": Random}))
    monkeypatch.setitem(algebra.CONTESTANTS, "LoRA", lora)
    assert algebra.no_op(MadeUp()).verdict == "not held"


# ---- from the sweep


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.799, "held"), (0.75, "not held"), (0.79, "not decided")])
def test_as_good_as_full(tmp_path, accuracy, verdict):
    found = swept_evidence(tmp_path, full=0.8, LoRA=accuracy, LoRA_all=0.8)
    found.tables[0].runs = [
        replace(r, method=r.method.replace("LoRA all", "LoRA all-linear")) for r in found.tables[0].runs
    ]
    assert swept.as_good_as_full(found).verdict == verdict


def test_variants_prompts_and_vectors(tmp_path):
    lines = [run for name in swept.VARIANTS for run in scores(name, 0.795)]
    made_up.write(tmp_path / "cpu" / "sentiment.jsonl", lines)
    found = swept_evidence(tmp_path, full=0.8, LoRA=0.8, prompt=0.7, BitFit=0.7)
    assert swept.variants(found).verdict == "held"
    assert swept.prompt_is_weak(found).verdict == "held"
    assert swept.bitfit_is_near(found).verdict == "not held"
    with pytest.raises(Missing, match="no search on dev"):
        swept.prompt_rate(found)
    with pytest.raises(Missing, match="2 are needed"):
        swept.better_than_full(found)


def test_a_prompt_s_rate(tmp_path):
    def dev(method, *accuracies):
        for k, accuracy in enumerate(accuracies):
            yield made_up.run("sentiment", method, "x", 0, half_decade(k - 4), "dev", 1 - accuracy, accuracy)

    made_up.write(
        tmp_path / "cpu" / "sentiment.jsonl", [*dev("prompt", 0.5, 0.6, 0.7, 0.65), *dev("LoRA", 0.78, 0.79, 0.8)]
    )
    found = swept.prompt_rate(Evidence(tmp_path))
    assert found.verdict == "held" and "prompt +0.100" in found.figures and "LoRA +0.010" in found.figures


def test_generation_on_which_vectors_are_far(tmp_path):
    still = replace(made_up.run("style", "zero-shot", "x", 0, 0.0, "test", 4, items=[4.0] * 60), steps=0)
    for folder, small, verdict in (("far", 3.8, "held"), ("near", 3.1, "not held")):
        lines = [still, *losses("LN-tuning", small), *losses("LoRA", 3.0)]
        made_up.write(tmp_path / folder / "cpu" / "style.jsonl", lines)
        assert swept.far_on_generation(Evidence(tmp_path / folder)).verdict == verdict


def test_better_than_full_is_a_mean_over_tasks(tmp_path):
    swept_evidence(tmp_path, "sentiment", full=0.8, LoRA=0.79)
    found = swept_evidence(tmp_path, "low-4000", full=0.8, LoRA=0.78)
    told = swept.better_than_full(found)
    assert told.verdict == "not held" and "sentiment -0.0" in told.figures and "low-4000 -0.0" in told.figures


def test_time_of_a_step(tmp_path):
    found = swept_evidence(tmp_path, full=0.8, LoRA=0.8)
    with pytest.raises(Missing, match="timed"):
        swept.a_quarter_faster(found)
    for interval, verdict in (((0.7, 0.66, 0.75), "held"), ((0.8, 0.77, 0.9), "not held"), ((0.75, 0.7, 0.8), "not d")):
        found.tables[0].times["LoRA"] = Interval(*interval)
        assert swept.a_quarter_faster(found).verdict.startswith(verdict)


# ---- runs of their own


def grids(method, best, seeds=SEEDS, bottom=0.5):
    """Losses on dev whose lowest point lies `best(seed)` half decades above 1."""
    for seed in seeds:
        for k in range(round(best(seed)) - 2, round(best(seed)) + 3):
            loss = bottom + 0.02 * (k - best(seed)) ** 2
            yield made_up.run("low-1000", method, "x", seed, half_decade(k), "dev", loss)


def test_the_best_rate_is_interpolated():
    (log_rate,) = made.best_log_rates(list(grids("a", lambda seed: -5.3, [0])), "a")
    assert log_rate == pytest.approx(-2.65, abs=1e-4)
    edge = [run for run in grids("a", lambda seed: -5.0, [0]) if run.lr <= half_decade(-5)]
    assert made.best_log_rates(edge, "a") == [pytest.approx(-2.5, abs=1e-4)], "its neighbour diverged"
    with pytest.raises(Missing, match="no rate trains"):
        made.best_log_rates([], "a")


@pytest.mark.parametrize(("above", "verdict"), [(2, "held"), (4, "not held"), (2.4, "not decided")])
def test_ten_times(above, verdict):
    full, other = grids("full", lambda seed: -8), grids("LoRA r16", lambda seed: -8 + above + 0.2 * (seed % 2))
    assert made.ten_times(MadeUp([*full, *other])).verdict == verdict


def test_same_rate_for_every_rank_but_not_with_alpha_2r():
    runs = []
    for i, rank in enumerate((1, 4, 16, 64)):
        runs += grids(f"LoRA r{rank}", lambda seed: -5 + 0.1 * (seed % 2))
        runs += grids(f"LoRA r{rank}, alpha 2r", lambda seed, i=i: -4 - 0.6 * i)
    found = made.same_rate(MadeUp(runs))
    assert found.verdict == "held" and "-0.50" in found.figures
    moved = [replace(run, method=run.method.removesuffix(", alpha 2r")) for run in runs if "2r" in run.method]
    control = [replace(run, method=f"{run.method}, alpha 2r") for run in moved]
    assert made.same_rate(MadeUp([*moved, *control])).verdict == "not held"


def test_what_test_items_decide():
    def of(*rows):
        return MadeUp([run for name, accuracy in rows for run in scores(name, accuracy, "low-1000")])

    assert made.rank_saturates(of(("LoRA r1", 0.79), ("LoRA r64", 0.795))).verdict == "held"
    assert made.rank_saturates(of(("LoRA r1", 0.7), ("LoRA r64", 0.795))).verdict == "not held"
    assert made.prompt_start(of(("prompt", 0.75), ("prompt, random start", 0.7))).verdict == "held"
    assert made.dora_at_low_rank(of(("DoRA r2", 0.78), ("LoRA r2", 0.8))).verdict == "not held"
    names = ("attention r16", "MLP r10", "all-linear r6")
    for mean, verdict in ((3.1, "held"), (2.9, "not held")):
        runs = [run for name, m in zip(names, (mean, 3.0, 3.0), strict=True) for run in losses(name, m)]
        assert made.places(MadeUp(runs)).verdict == verdict


@pytest.mark.parametrize(("best", "verdict"), [(0.78, "held"), (0.6, "not held")])
def test_few_directions(best, verdict):
    runs = [run for d, a in zip((30, 300, 3000), (0.55, 0.58, best), strict=True) for run in scores(f"SAID d{d}", a)]
    full = torch.full((5, 100), 0.8)
    assert made.few_directions(MadeUp(runs, full=full)).verdict == verdict


def test_large_batches():
    def at(gap):
        return [*grids("full", lambda s: -8, range(3)), *grids("LoRA r16", lambda s: -5, range(3), 0.5 + gap)]

    by_batch = {16: at(0.01), 64: at(0.03), 256: at(0.1)}
    found = made.large_batches(MadeUp(by_batch=by_batch))
    assert found.verdict == "held" and "batch 256 +0.100" in found.figures
    by_batch[256] = at(-0.1)
    found = made.large_batches(MadeUp(by_batch=by_batch))
    assert found.verdict == "not held"


def corpora(lower):
    """Full and LoRA reach the same losses; LoRA's loss on the other corpus is lower by so much, and noise."""
    for method, rise in (("full", 0.0), ("LoRA all-linear", -lower)):
        for seed in range(3):
            for k, (task, other) in enumerate([(3.4, 3.5), (3.2, 3.6), (3.0, 3.8), (3.3, 5.0)]):
                other = other + rise + 0.01 * seed * (method == "full")
                yield made_up.run("style", method, "x", seed, half_decade(k - 8), "dev", task, other_loss=other)


def test_forgetting_at_the_same_loss():
    assert forgetting.forgets_less(MadeUp(corpora(0.2))).verdict == "held"
    assert forgetting.forgets_less(MadeUp(corpora(-0.2))).verdict == "not held"
    assert forgetting.forgets_less(MadeUp(corpora(0.01))).verdict == "not decided"
    assert forgetting.front(made.curve(list(corpora(0)), "full", 0)) == ([3.4, 3.2, 3.0], [3.5, 3.6, 3.8])
    apart = [
        replace(r, metrics=r.metrics | {"log_loss": r.metrics["log_loss"] + 3 * (r.method == "full")})
        for r in corpora(0)
    ]
    with pytest.raises(Missing, match="no loss that both have"):
        forgetting.forgets_less(MadeUp(apart))


# ---- inside a run


def test_the_rank_that_holds_the_energy():
    q, _ = torch.linalg.qr(torch.randn(20, 20))
    assert trained.energy_rank(q[:, :3] @ q[:3]) == 3
    assert trained.energy_rank(q @ torch.diag(torch.tensor([3.0] + [0.1] * 19))) == 1


def test_steps_until_it_is_learned():
    assert trained.steps_to([0.7] * 30 + [0.5] * 30) == 40
    assert trained.steps_to([0.7] * 30) == 31, "never: one more than all"
    assert trained.steps_to([0.1] * 4) == 4, "a short run"


def test_random_labels(monkeypatch):
    def bits(small, large):
        return {(r, s): {"bits": b + s, "numbers": r * 288} for r, b in ((1, small), (4, large)) for s in range(3)}

    assert trained.capacity(MadeUp(values=bits(250, 400))).verdict == "held"
    assert trained.capacity(MadeUp(values=bits(250, 240))).verdict == "not held"
    assert trained.capacity(MadeUp(values=bits(500, 510))).verdict == "not held", "no limit was met"
    monkeypatch.setattr(trained, "STEPS", 30)
    monkeypatch.setattr(trained, "LABELS", 64)
    found = trained.memorised(2, 0)
    assert 0 < found["bits"] <= 64 and found["numbers"] == 2 * 2 * 2 * 2 * 36


@pytest.mark.parametrize(("lora", "verdict"), [((60, 80, 90, 70, 100), "held"), ((20, 25, 22, 21, 24), "not held")])
def test_slower(monkeypatch, lora, verdict):
    monkeypatch.setattr(trained, "rates", lambda *a: [1e-4, 1e-3])
    values = {(seed,): {"full": 40, "LoRA r16": steps} for seed, steps in enumerate(lora)}
    assert trained.slower(MadeUp(values=values)).verdict == verdict


def test_higher_rank(monkeypatch):
    monkeypatch.setattr(trained, "rates", lambda *a: [1e-4, 1e-3])
    values = {(seed,): {"full": 90 + seed, "LoRA r64": 5} for seed in range(3)}
    assert trained.higher_rank(MadeUp(values=values)).verdict == "held"
    values[(1,)]["full"] = 5
    assert trained.higher_rank(MadeUp(values=values)).verdict == "not held"


# ---- evidence, and the command


def test_a_ladder_wants_every_seed_s_search_then_the_tests():
    experiment = Experiment(TASKS["low-1000"], (lora(4),), searched=(0, 1), tested=(0, 1, 2))
    plan, runs = Ladder(lora(4), experiment), []
    assert isinstance(plan, Plan) and {wish[0] for wish in plan.wants([])} == {0, 1}
    for _ in range(10):
        for seed, lr, split in plan.wants(runs):
            runs.append(made_up.run("low-1000", "LoRA r4", "x", seed, lr, split, abs(lr - half_decade(-6))))
    assert plan.wants(runs) == []
    assert {r.lr for r in runs if r.split == "test"} == {half_decade(-6)} and sum(r.split == "test" for r in runs) == 3


def test_an_experiment_is_made_once_and_borrows_from_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    small = replace(RANK, contestants=(RANK.contestants[0], lora(1)), searched=(0,), tested=(0,))
    with pytest.raises(Missing, match="runs of low-1000 are missing: python -m peft_from_scratch compare claims --run"):
        Evidence(tmp_path).made(small)
    runs = Evidence(tmp_path, running=True).made(small)
    path = tmp_path / "cpu" / "claims-low-1000.jsonl"
    before = path.read_bytes()
    assert len(Evidence(tmp_path).made(small)) == len(runs) and path.read_bytes() == before
    path.rename(tmp_path / "cpu" / "low-1000.jsonl")  # as if the sweep had made them
    assert len(Evidence(tmp_path, running=True).made(small)) == len(runs) and not path.exists()


def test_a_measurement_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    made_now = []

    def make():
        made_now.append(1)
        return {"bits": 3.0}

    for _ in range(2):
        assert Evidence(tmp_path, running=True).measured(TASKS["low-1000"], "x", [0], make) == {"bits": 3.0}
    assert made_now == [1]
    with pytest.raises(Missing, match="y is not measured yet"):
        Evidence(tmp_path).measured(TASKS["low-1000"], "y", [0], make)


def command(*arguments):
    parser = ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["claims", *arguments]))


def test_the_command_keeps_what_it_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    assert command("--results", str(tmp_path), "--only", "gradients, ten times") == 0
    assert command("--results", str(tmp_path), "--only", "dead adapter") == 0
    out = capsys.readouterr().out
    assert "held         [certain] dB = s G Aᵀ" in out and "not decided  [high] LoRA's best rate" in out
    kept = json.loads((tmp_path / "cpu" / "claims.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in kept["claims"]] == ["dead adapter", "gradients", "ten times"]
    assert kept["claims"][1]["verdict"] == "held" and "e-1" in kept["claims"][1]["figures"]


def test_an_unknown_claim(tmp_path, capsys):
    assert command("--results", str(tmp_path), "--only", "gradient") == 2
    assert "no claim called 'gradient'" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert len(chosen_claims("")) == len(CLAIMS)
