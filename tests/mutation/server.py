"""One process that has imported and collected everything, and forks a child for each mutant."""

import argparse
import gc
import os
import signal
import time

import pytest

from . import cover, ledger, swap
from .operators import mutants
from .page import Mutant
from .pool import Pool

UNREACHED = "reload"


class Server:
    """A pytest plugin: where the tests would run, it forks a child for each mutant."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.failed, self.survivors = args, [], 0
        self.kills: dict[str, int] = {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.live = swap.live_functions()
        self.pool = Pool(self.args.workers)
        gc.freeze()
        self.known = cover.Map({name.split("::")[0] for name in self.items})
        self.learn()
        self.kept = ledger.load()
        for page in self.pages():
            if self.args.write and ledger.is_current(page, self.kept, self.known):
                continue
            self.mutate(page)
        print(f"\n{self.survivors} survived")
        return True

    def run(self, item, following) -> bool:
        """One test, in a child; an endless one ends the child."""
        self.failed.clear()
        signal.alarm(10 + int(10 * self.known.tests.get(item.nodeid, {"seconds": 60})["seconds"]))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        signal.alarm(0)
        return not self.failed

    def learn(self) -> None:
        """Measure the tests that are not known yet, in shards that keep a file's tests together."""
        new = [item for name, item in self.items.items() if name not in self.known.tests]
        for i in range(0, len(new), 200):
            while self.pool.full():
                self.learned()
            shard = new[i : i + 200]
            self.pool.submit(i, 3600, lambda shard=shard: cover.measure(shard, self.run))
        while self.pool.running:
            self.learned()
        self.known.tests = {t: known for t, known in self.known.tests.items() if t in self.items}
        self.known.save()
        for name, known in self.known.tests.items():
            if not known["passed"]:
                print(f"fails unmutated, so it cannot notice anything: {name}")

    def learned(self) -> None:
        i, found = self.pool.finished()
        if not isinstance(found, dict):
            raise SystemExit(f"measuring the tests from number {i} on came to nothing: run pytest on them first")
        self.known.add(found)
        self.known.save()
        print(f"measured {len(self.known.tests)} of {len(self.items)} tests", flush=True)

    def pages(self) -> list[str]:
        from peft_from_scratch.methods.table import pages

        every = list(dict.fromkeys(path for _, path, _ in pages()))
        if not self.args.pages:
            return every
        package = swap.ROOT / swap.PACKAGE
        more = [p.relative_to(package).as_posix() for p in package.rglob("*.py")]
        chosen = [p for p in every + sorted(set(more) - set(every)) if any(p.endswith(a) for a in self.args.pages)]
        if not chosen:
            raise SystemExit(f"no page ends in {' or '.join(self.args.pages)}")
        return chosen

    def mutate(self, page: str) -> None:
        """All mutants of one page: a line of the table, and the survivors under it."""
        listed, start = ledger.equivalents().get(page, {}), time.monotonic()
        found = mutants((swap.ROOT / swap.PACKAGE / page).read_text(), differentiated(page))
        alive, unreached = self.attempt(
            page, [m for m in found if self.args.equivalents or m.key() not in listed], self.swapped
        )
        again = unreached if self.args.quick else alive + unreached
        alive = alive * self.args.quick + self.attempt(page, again, self.afresh)[0]
        survived = sorted((m for m in alive if m.key() not in listed), key=lambda m: m.line)
        equal = [m for m in found if m.key() in listed]
        wrong = [m for m in equal if m not in alive] if self.args.equivalents else []
        ledger.report(page, found, equal, survived, wrong, time.monotonic() - start)
        self.survivors += len(survived)
        self.known.save()
        if self.args.write:
            ledger.save(page, found, equal, survived, self.known)

    def attempt(self, page: str, tried: list[Mutant], how) -> tuple[list[Mutant], list[Mutant]]:
        """Those that no test notices, and those that could not be tried in this way."""
        alive, unreached = [], []

        def one() -> None:
            mutant, answer = self.pool.finished()
            if answer == UNREACHED:
                unreached.append(mutant)
            elif answer == "":
                alive.append(mutant)
            elif answer:
                self.kills[answer] = self.kills.get(answer, 0) + 1
                self.known.killers[f"{page} {mutant.key()}"] = answer

        for mutant in tried:
            while self.pool.full():
                one()
            tests = self.tests_for(page, mutant)
            seconds = sum(self.known.tests[t]["seconds"] for t in tests)
            self.pool.submit(mutant, 60 + 10 * seconds, lambda m=mutant, t=tests: how(page, m, t))
        while self.pool.running:
            one()
        return alive, unreached

    def tests_for(self, page: str, mutant: Mutant) -> list[str]:
        """Those that run the line; for what runs at import, all that touch the page. First what has killed before, then
        the quick ones, those that touch little else, and of each test function one case before the next."""
        wanted = set(cover.names(page, range(mutant.lines[0], mutant.lines[1] + 1))) if mutant.function else None
        known, turn, order = self.known.tests, {}, {}
        for t in sorted(self.known.tests_of(page, wanted), key=lambda t: (len(known[t]["pages"]), known[t]["seconds"])):
            function = t.split("[")[0]
            turn[function] = turn.get(function, 0) + 1
            dear = turn[function] * (known[t]["seconds"] + 0.02)
            order[t] = (t != self.known.killers.get(f"{page} {mutant.key()}"), -self.kills.get(t, 0), dear)
        chosen, seconds = [], 0.0
        for t in sorted(order, key=order.get):
            seconds += known[t]["seconds"]
            if seconds > self.args.most and chosen:
                break
            chosen.append(t)
        return chosen

    def swapped(self, page: str, mutant: Mutant, tests: list[str]) -> str:
        """In a child: the name of the first test that fails, or nothing."""
        if not mutant.function or not swap.in_place(page, mutant.function, mutant.text, self.live):
            return UNREACHED
        for i, name in enumerate(tests):
            following = self.items[tests[i + 1]] if i + 1 < len(tests) else None
            if not self.run(self.items[name], following):
                return name
        return ""

    def afresh(self, page: str, mutant: Mutant, tests: list[str]) -> str:
        """The same by importing everything again: slower, and reaches what was made at import."""
        swap.reload(page, mutant.text)
        if not tests:
            return ""
        os.chdir(swap.ROOT)
        code = pytest.main(["-x", "-q", "-s", "-p", "no:cacheprovider", *tests])
        return "" if code == 0 else tests[0]


def differentiated(page: str) -> bool:
    """Nobody asks for a gradient through an optimiser's step or a combination of finished changes."""
    return not page.startswith(("optim/", "combine/"))
