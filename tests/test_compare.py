"""The sweep's engine: the store that loses nothing, the search, the rows that fail, the tasks' scores, the command."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from transformers import RobertaConfig, RobertaForMaskedLM

from peft_from_scratch.assets import AssetError
from peft_from_scratch.compare import asked, cli, sharing
from peft_from_scratch.compare.bench import Score
from peft_from_scratch.compare.contestants import CONTESTANTS, Contestant
from peft_from_scratch.compare.laboratory import Laboratory
from peft_from_scratch.compare.rates import best_rate, half_decade, known_rates, next_rates, place
from peft_from_scratch.compare.runs import Run
from peft_from_scratch.compare.store import Store
from peft_from_scratch.compare.sweep import Plan, sweep
from peft_from_scratch.compare.tasks import TASKS
from peft_from_scratch.compare.times import stepper
from peft_from_scratch.course.budget import budget
from peft_from_scratch.methods.selective.full import full
from peft_from_scratch.models import load
from peft_from_scratch.train import TrainingDiverged


@pytest.fixture(autouse=True)
def ci(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")


def laboratory(folder, task="sentiment", **changes):
    task = replace(TASKS[task].on(budget()), **changes)
    return Laboratory(task.bench(), Store(folder, "cpu", task.name))


# ---- the store


def test_a_line_that_was_cut_short_is_kept_aside(tmp_path, capsys):
    store = Store(tmp_path, "cpu", "some")
    store.add({"kind": "run", "seed": 0})
    with store.path.open("a") as file:
        file.write('{"kind": "run", "see')
    store.add({"kind": "run", "seed": 2})
    assert [line["seed"] for line in store.lines()] == [0, 2]
    assert (tmp_path / "cpu" / "some.jsonl.corrupt").read_text() == '{"kind": "run", "see\n'
    assert "1 unreadable line" in capsys.readouterr().out
    with pytest.raises(ValueError, match="JSON"):
        store.add({"loss": float("nan")})
    assert len(store.lines()) == 2


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    store = Store(tmp_path, "cpu", "some")
    store.path.write_text('{"a": 1}')
    store.add({"a": 2})
    assert [line["a"] for line in store.lines()] == [1, 2]


def add_many(folder, who, n):
    store = Store(folder, "cpu", "some")
    for i in range(n):
        store.add({"who": who, "i": i, "padding": "x" * 5000})


def test_two_processes_lose_no_line(tmp_path):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=add_many, args=(tmp_path, who, 25)) for who in range(3)]
    [w.start() for w in workers], [w.join() for w in workers]
    lines = Store(tmp_path, "cpu", "some").lines()
    assert sorted((line["who"], line["i"]) for line in lines) == [(w, i) for w in range(3) for i in range(25)]


def hold(folder, ready):
    with Store(folder, "cpu", "some").claim("LoRA", 0) as mine:
        ready.put(mine)
        time.sleep(60)


def test_a_claim_ends_with_its_process(tmp_path):
    fork, store = multiprocessing.get_context("fork"), Store(tmp_path, "cpu", "some")
    ready = fork.Queue()
    worker = fork.Process(target=hold, args=(tmp_path, ready))
    worker.start()
    assert ready.get(timeout=20)
    with store.claim("LoRA", 0) as mine, store.claim("LoRA", 1) as other:
        assert not mine and other
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    with store.claim("LoRA", 0) as mine:
        assert mine


# ---- what is wanted next


def line(lr, log_loss=None, split="dev", seed=0, method="LoRA", status="done"):
    metrics = {} if log_loss is None else {"log_loss": log_loss}
    return Run("t", method, "low rank", seed, lr, split, status if metrics else "nan", "", metrics=metrics)


def simulate(loss_of, first=-5):
    """Follow a search to its end: the rates it tried."""
    tried = {}
    while rates := next_rates(half_decade(first), tried):
        tried |= {lr: line(lr, loss_of(place(lr))) for lr in rates}
    return sorted(map(place, tried))


def test_the_search_goes_on_until_the_best_is_interior():
    assert simulate(lambda k: abs(k + 5)) == [-6, -5, -4]
    assert simulate(lambda k: abs(k + 1)) == [-6, -5, -4, -3, -2, -1, 0]
    assert simulate(lambda k: abs(k + 9)) == [-10, -9, -8, -7, -6, -5, -4]
    assert simulate(lambda k: None if k > -6 else abs(k + 6)) == [-7, -6, -5, -4], "a run that diverged is an edge"
    assert min(simulate(lambda k: None)) == -14, "where nothing trains the search ends, too"
    assert max(simulate(lambda k: -k)) == 6


def test_the_best_rate_can_be_the_most_accurate():
    """As on 64 reviews: the rate with the lowest loss hardly learned."""
    tried = {}
    for k, loss, accuracy in ((-10, 0.69, 0.55), (-9, 0.68, 0.55), (-8, 0.7, 0.71)):
        tried[half_decade(k)] = line(half_decade(k), loss)
        tried[half_decade(k)].metrics["accuracy"] = accuracy
    assert best_rate(tried) == half_decade(-9) and next_rates(half_decade(-9), tried) == []
    assert best_rate(tried, "accuracy") == half_decade(-8)
    assert next_rates(half_decade(-9), tried, "accuracy") == [half_decade(-7)]
    assert known_rates(tried.values(), "accuracy") == {"LoRA": half_decade(-8)}
    tried[half_decade(-10)].metrics["accuracy"] = 0.71
    assert best_rate(tried, "accuracy") == half_decade(-10), "of two as accurate, the lower loss"


def test_rates_are_the_same_number_wherever_they_come_from():
    for k in range(-14, 7):
        assert place(half_decade(k)) == k and json.loads(json.dumps(half_decade(k))) == half_decade(k)
    assert half_decade(-5) == 0.00316228 and half_decade(-8) == 1e-4
    assert all(c.lr == half_decade(place(c.lr)) for c in CONTESTANTS.values())


def test_a_plan_from_search_to_test_to_done():
    plan = Plan(CONTESTANTS["LoRA"], range(2))
    runs = []
    assert [w[2] for w in plan.wants(runs)] == ["dev"] * 3
    runs += [line(half_decade(k), abs(k + 5)) for k in (-6, -5, -4)]
    assert plan.wants(runs) == [(0, half_decade(-5), "test"), (1, half_decade(-5), "test")]
    assert known_rates(runs) == {"LoRA": half_decade(-5)}
    runs += [line(half_decade(-5), 0.4, "test", 0), line(half_decade(-5), 0.5, "test", 1)]
    assert plan.wants(runs) == [] and plan.left(runs) == 0
    assert Plan(CONTESTANTS["LoRA"], range(3)).wants(runs) == [(2, half_decade(-5), "test")]
    assert Plan(CONTESTANTS["LoRA"], [0], rate=1.0).wants([]) == [(0, 1.0, "test")], "a known rate is not searched"


# ---- runs


def metrics_of(lab):
    return {run.key: (run.status, run.metrics, run.items) for run in lab.runs()}


def few(*names):
    return [Plan(CONTESTANTS[name], range(2)) for name in names]


def test_a_sweep_twice_makes_nothing_new(tmp_path, capsys):
    lab = laboratory(tmp_path)
    sweep(lab, few("head only", "LoRA"))
    first = lab.store.path.read_text()
    assert "min left" in capsys.readouterr().out
    sweep(lab, few("head only", "LoRA"))
    assert lab.store.path.read_text() == first
    run = lab.runs()[-1]
    assert run.split == "test" and set(run.items) <= set("01") and len(run.items) == 60
    assert {"accuracy", "log_loss", "dev_accuracy", "dev_log_loss"} == set(run.metrics)
    made_with = run.provenance
    assert {
        "code",
        "torch",
        "transformers",
        "python",
        "model_sha256",
        "data_sha256",
        "device",
        "machine",
    } <= made_with.keys()
    assert "commit" in made_with["code"] or "sources" in made_with["code"]
    other = laboratory(tmp_path, epochs=2)
    assert other.runs() == [], "runs of another setting are not mixed in"


def test_pairs_share_head_and_order(tmp_path):
    bench = laboratory(tmp_path).bench
    assert torch.equal(bench.model(1).classifier.weight, bench.model(1).classifier.weight)
    assert not torch.equal(bench.model(1).classifier.weight, bench.model(2).classifier.weight)
    one, two = bench.order(1), bench.order(1)
    assert all(torch.equal(a["index"], b["index"]) for a, b in zip(one(0), two(0), strict=True))
    assert any(not torch.equal(a["index"], b["index"]) for a, b in zip(one(0), one(1), strict=True))


def diverges(model, batch):
    raise TrainingDiverged("the loss is nan at step 3")


def exhausts(model):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")


def odd(model):
    raise KeyError("query")


def test_rows_that_fail_say_so_and_the_sweep_goes_on(tmp_path, capsys):
    lab = laboratory(tmp_path)
    bad = [
        Contestant("diverges", "x", full, 1e-3, fit=lambda model, steps: {"loss_fn": diverges}),
        Contestant("exhausts", "x", exhausts, 1e-3),
        Contestant("odd", "x", odd, 1e-3),
        CONTESTANTS["prefix"],
        CONTESTANTS["head only"],
    ]
    sweep(lab, [Plan(c, [0]) for c in bad])
    assert [lab.costs(c)["note"] != "" for c in bad] == [False, True, True, True, False]
    status = {run.method: (run.status, run.note) for run in lab.runs()}
    assert status["diverges"] == ("nan", "the loss is nan at step 3")
    assert status["exhausts"][0] == "memory" and "can't allocate" in status["exhausts"][1]
    assert status["odd"] == ("cannot", "KeyError: 'query'") and "Traceback" in capsys.readouterr().err
    assert status["prefix"][0] == "cannot" and "encoder" in status["prefix"][1]
    assert status["head only"][0] == "done"
    assert "nan" in {run.status for run in lab.runs() if run.method == "diverges"}
    assert not [run for run in lab.runs() if run.split == "test" and run.method != "head only"]


def test_a_real_divergence_is_a_row(tmp_path):
    lab = laboratory(tmp_path)
    run = lab.run(CONTESTANTS["full"], 0, 1e30, "dev")
    assert run.status == "nan" and run.metrics == {} and run.note


def sweep_in(folder, names):
    sweep(laboratory(folder), few(*names), poll=0.05)


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_ten_times_it_ends_with_the_same_lines(tmp_path):
    names = ("full", "head only", "BitFit", "LoRA")
    sweep_in(tmp_path / "alone", names)
    kept = tmp_path / "killed" / "cpu" / "sentiment.jsonl"
    fork, rng = multiprocessing.get_context("fork"), random.Random(0)
    for _ in range(10):  # each is killed at a random moment of its second or third run, or while it writes
        worker, wanted = fork.Process(target=sweep_in, args=(tmp_path / "killed", names)), lines_in(kept) + 1
        worker.start()
        while worker.is_alive() and lines_in(kept) < wanted:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL, "it was still at work"
    alone, after = laboratory(tmp_path / "alone"), laboratory(tmp_path / "killed")
    assert 10 <= len(after.runs()) < len(alone.runs())
    sweep_in(tmp_path / "killed", names)
    assert metrics_of(after) == metrics_of(alone) and len(after.runs()) == len(alone.runs())


def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    names = ("head only", "LoRA", "BitFit")
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=sweep_in, args=(tmp_path, names)) for _ in range(2)]
    [w.start() for w in workers], [w.join() for w in workers]
    assert [w.exitcode for w in workers] == [0, 0]
    keys = [run.key for run in laboratory(tmp_path).runs()]
    assert len(keys) == len(set(keys)), "no run was made twice"
    assert sum(key[3] == "test" for key in keys) == 6


def test_costs_count_the_optimiser_that_is_used(tmp_path):
    lab = laboratory(tmp_path)
    full, galore, lora, plus = (lab.costs(CONTESTANTS[name]) for name in ("full", "GaLore", "LoRA", "LoRA+"))
    assert full["numbers"] == galore["numbers"] == full["total"] and full["flops"] == galore["flops"]
    assert galore["static"] > full["static"], "rank 36 of 36 saves nothing and adds P"
    assert plus["static"] == lora["static"] < full["static"] and plus["saved"] == lora["saved"]
    assert lora["memory"] == lora["static"] + lora["saved"] and lora["file"] < full["file"]
    assert lab.costs(CONTESTANTS["LoRA"]) == lora and len(lab.store.lines()) == 4, "counted once"


def test_a_step_is_timed_beside_one_of_full(tmp_path):
    lab = laboratory(tmp_path)
    found = {name: lab.time(CONTESTANTS[name]) for name in ("full", "AdaLoRA", "GaLore", "FISH mask", "prefix")}
    assert "encoder" in found["prefix"]["note"] and "ratio" not in found.pop("prefix")
    for line in found.values():
        assert 0 < line["low"] <= line["ratio"] <= line["high"] and line["rounds"] == 15 and line["provenance"]
    assert lab.time(CONTESTANTS["full"]) == found["full"] and len(lab.store.lines()) == 5, "timed once"


def test_what_is_timed_is_a_whole_step(tmp_path):
    bench, stepped = laboratory(tmp_path).bench, []
    seen = Contestant("seen", "x", full, 1e-3, fit=lambda *_: {"on_step": lambda *told: stepped.append(told)})
    step = stepper(seen, bench)
    step(), step()
    (first, loss), (second, again) = stepped
    assert (first, second) == (1, 2) and loss == pytest.approx(again, rel=0.2), "trained at a rate that is next to none"


# ---- tasks


def test_balanced_accuracy_and_the_rows_without_training(tmp_path):
    lab = laboratory(tmp_path, "spam", train=100)
    found = {b.name: lab.baseline(b) for b in lab.bench.baselines()}
    assert lab.labels() == lab.labels() and len(lab.labels()) == 60
    labels = torch.tensor(lab.bench.labels("test"))
    majority = found["majority class"]
    assert majority.metrics["balanced_accuracy"] == 0.5
    assert majority.metrics["accuracy"] in (labels.double().mean().item(), 1 - labels.double().mean().item())
    assert (
        0 <= found["nearest class mean"].metrics["accuracy"] <= 1
        and "log_loss" not in found["nearest class mean"].metrics
    )
    assert len(lab.runs()) == 2 and [lab.baseline(b).items for b in lab.bench.baselines()]
    assert len(lab.runs()) == 2, "made once"


def test_low_data_draws_its_examples_by_seed(tmp_path):
    bench = laboratory(tmp_path, "low-16", train=8).bench
    rows = [[tuple(row["input_ids"]) for row in bench.training_rows(seed)] for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2] and len(rows[0]) == 8
    assert "8 drawn" in bench.task.setting


def test_exact_match_is_what_greedy_decoding_writes(tmp_path):
    bench = laboratory(tmp_path, "arithmetic", train=300, epochs=6).bench
    lab = Laboratory(bench, Store(tmp_path, "cpu", "arithmetic"))
    run = lab.run(CONTESTANTS["full"], 0, half_decade(-5), "test")
    assert {"log_loss", "other_loss", "exact_match"} <= run.metrics.keys() and len(run.items) == len(run.exact) == 20

    from peft_from_scratch.train import fit

    model = full(bench.model(0))
    fit(model, bench.order(0), lr=half_decade(-5), epochs=6, seed=0, progress=False)
    _, exact = bench.each(model, bench.sets["test"])
    for row, right in zip(bench.sets["test"], exact.tolist(), strict=True):
        answer = [token for token in row["labels"] if token != -100]
        asked = torch.tensor([row["input_ids"][: -len(answer)]])
        written = model.generate(asked, max_new_tokens=len(answer), do_sample=False, pad_token_id=bench.pad)
        found = written[0, asked.shape[1] :].tolist()
        assert (found == answer) == right
    assert run.exact == "".join(str(int(e)) for e in exact)


def test_losses_of_items_are_those_of_the_model(tmp_path):
    bench = laboratory(tmp_path, "style").bench
    model, row = bench.model(0), bench.sets["test"][3]
    ids = torch.tensor([row["input_ids"]])
    with torch.no_grad():
        expected = model(input_ids=ids, labels=ids).loss.item()
    assert bench.score(model, "test").items[3] == pytest.approx(expected, abs=1e-4)
    zero = next(iter(bench.baselines()))
    assert zero.name == "zero-shot" and zero.score().metrics == bench.score(model, "test").metrics


def test_in_context_examples_come_before_and_are_not_scored(tmp_path):
    bench = laboratory(tmp_path, "arithmetic").bench
    rows = []
    bench.scored = lambda model, given: rows.append(given) or Score({})
    bench.in_context(2)
    first, plain = rows[0][0], bench.sets["test"][0]
    shots = [i for row in bench.training_rows(0)[:2] for i in row["input_ids"]]
    assert first["input_ids"] == shots + plain["input_ids"]
    assert first["labels"] == [-100] * len(shots) + plain["labels"]


# ---- contestants


CANNOT = {  # task: method: why not, on that task's model
    "sentiment": {"prefix": "encoder", "OFT": "divide", "BOFT": "divide", "C3A": "divide"},
    "roberta": {"prefix": "encoder"},
    "style": {
        "head only": "no new head", "BitFit": "no biases", "OFT": "divide", "BOFT": "divide", "C3A": "divide",
        "FourierFT": "n must be from 1 to d_out * d_in = 720",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """A host with a head of two layers, and positions that begin behind the padding token's number."""
    folder, tokenizer = tmp_path_factory.mktemp("roberta"), load("tiny-bert")[1]
    torch.manual_seed(0)
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    config = RobertaConfig(vocab_size=200, max_position_embeddings=40, pad_token_id=tokenizer.pad_token_id, **sizes)
    RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("task", CANNOT)
@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_trains_or_says_why_not(tmp_path, task, name, request):
    host = {"model": request.getfixturevalue(task)} if task == "roberta" else {}
    lab = laboratory(tmp_path, "sentiment" if host else task, dev=4, test=4, **host)
    run = lab.run(CONTESTANTS[name], 0, CONTESTANTS[name].lr, "dev")
    if why := CANNOT[task].get(name):
        assert run.status == "cannot" and why in run.note
    else:
        assert run.status == "done" and run.steps, run.note


def test_there_are_enough_contestants():
    assert len(CONTESTANTS) >= 30 and len({c.family for c in CONTESTANTS.values()}) >= 8
    assert len(asked.SMALL) >= 13 and set(asked.SMALL) | set(asked.FEW) | set(asked.TEXT) <= CONTESTANTS.keys()


# ---- the command


def command(*words):
    import argparse

    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([*words]))


def test_the_command_end_to_end(tmp_path, capsys):
    out = str(tmp_path / "runs")
    assert command("--methods", "full, LoRA", "--seeds", "2", "--results", out) == 0
    said = capsys.readouterr().out
    assert "majority class" in said and "compare report" in said
    lines = Store(tmp_path / "runs", "cpu", "sentiment").lines()
    assert [line["kind"] for line in lines].count("cost") == 2
    assert {line["method"] for line in lines if "method" in line} == {
        "majority class",
        "nearest class mean",
        "full",
        "LoRA",
    }

    small = str(tmp_path / "small")
    assert command("--budget", "small", "--methods", "full, VeRA", "--results", small, "--rates", out) == 0
    runs = [line for line in Store(tmp_path / "small", "cpu", "sentiment").lines() if line.get("lr")]
    assert {line["split"] for line in runs} == {"test"} and len(runs) == 4, "no search"
    assert {len(line["items"]) for line in lines if line.get("split") == "test"} == {60}
    assert {len(line["items"]) for line in runs} == {24}, "the rates of the whole task, on a part of it"
    best = {
        line["lr"] for line in lines if line["kind"] == "run" and (line["method"], line["split"]) == ("full", "test")
    }
    assert {line["lr"] for line in runs if line["method"] == "full"} == best


def test_two_jobs_share_the_runs(tmp_path, capfd):
    before, out = torch.get_num_threads(), tmp_path / "runs"
    assert command("--methods", "head only, LoRA", "--seeds", "3", "--results", str(out), "--jobs", "2") == 0
    said = capfd.readouterr().out  # of both processes
    assert [said.count(words) for words in ("2 methods, 3 seeds", "majority class:", "time of a step", "done.")] == [
        1
    ] * 4
    lines = Store(out, "cpu", "sentiment").lines()
    keys = [tuple(line.get(key) for key in ("kind", "method", "seed", "lr", "split")) for line in lines]
    assert len(keys) == len(set(keys)) and sum(key[-1] == "test" for key in keys) == 2 + 2 * 3
    assert [key[0] for key in keys].count("time") == 2 and torch.get_num_threads() == before
    assert {line["provenance"]["threads"] for line in lines if line["kind"] != "task"} == {max(1, before // 2)}


def test_an_error_ends_the_other_jobs(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(
        sharing.subprocess, "Popen", lambda words, **more: started.append(real(["sleep", "60"])) or started[-1]
    )
    args = Namespace(**dict.fromkeys(sharing.PASSED_ON), jobs=3)
    with pytest.raises(OSError, match="disk"), sharing.helpers(args):
        raise OSError("the disk is full")
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_the_small_budget_takes_part_of_a_task_in_as_many_steps():
    sentiment, low = TASKS["sentiment"], TASKS["low-64"]
    small, few = asked.part_of(sentiment, 0.4), asked.part_of(low, 0.4)
    assert (small.train, small.batch, small.dev, small.test) == (800, 6, 600, 2000)
    assert abs(small.train / small.batch - sentiment.train / sentiment.batch) < 10
    assert (few.train, few.batch, few.dev, few.test) == (64, 8, 200, 800)
    assert asked.part_of(sentiment, 1.0) == sentiment


def test_on_a_gpu_the_base_is_larger_where_the_hub_gives_it(monkeypatch, capsys):
    monkeypatch.setattr(asked, "budget", lambda: replace(budget(), mode="gpu", device="cuda", amp="bf16"))
    loaded = []
    monkeypatch.setattr(asked, "load", lambda name, kind: loaded.append((name, kind)))
    args = Namespace(model=None, budget="standard")
    assert asked.chosen_task("sentiment", args).model == "FacebookAI/roberta-base"
    assert asked.chosen_task("style", args).model == "HuggingFaceTB/SmolLM2-360M-Instruct"
    assert [kind for _, kind in loaded] == ["classify", "generate"]
    given = asked.chosen_task("style", Namespace(model="smollm2", budget="standard"))
    assert (given.model, given.device, given.amp) == ("smollm2", "cuda", "bf16") and len(loaded) == 2

    def no_network(name, kind):
        raise AssetError(f"{name} needs a network")

    monkeypatch.setattr(asked, "load", no_network)
    assert asked.chosen_task("sentiment", args).model == "minilm"
    assert "roberta-base needs a network. Until then the base is minilm" in capsys.readouterr().out


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert command("--results", str(file)) == 2 and file.read_text() == "mine"
    assert command("--seeds", "0", "--results", str(tmp_path)) == 2
    assert command("--jobs", "0", "--results", str(tmp_path)) == 2
    assert command("--model", "minilmm", "--methods", "full", "--results", str(tmp_path)) == 2
    said = capsys.readouterr().out
    told = ("File exists", "at least one run", "one process", "did you mean 'minilm'")
    assert all(words in said for words in told)


@pytest.mark.parametrize("words", [("--task", "sentimnt"), ("--methods", "LoRAA"), ("--task", "low,spma")])
def test_a_name_that_is_not_known(words, capsys):
    assert command(*words) == 2
    assert "did you mean" in capsys.readouterr().out
