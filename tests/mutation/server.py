"""A pytest plugin: where the tests would run, every page is mutated."""

import argparse
import time

from . import cover, ledger, swap
from .fresh import Fresh
from .operators import mutants
from .pool import Pool
from .trials import Trials


class Server:
    """Collects, measures what is new, and goes through the pages; how a mutant is tried: trials.py."""

    def __init__(self, args: argparse.Namespace, fresh: Fresh):
        self.args, self.fresh, self.survivors = args, fresh, 0
        self.failed: list[str] = []  # of the test that runs

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        self.known = cover.Map({name.split("::")[0] for name in self.items})
        self.pool = Pool(self.args.workers)
        self.trials = Trials(self.items, self.known, self.pool, self.fresh, self.failed, self.args.most)
        self.learn()
        self.kept = ledger.load()
        for page in self.pages():
            if self.args.write and ledger.is_current(page, self.kept, self.known):
                continue
            self.mutate(page)
        print(f"\n{self.survivors} survived")
        return True

    def learn(self) -> None:
        """Measure the tests that are not known yet, in shards that keep a file's tests together."""
        new = [item for name, item in self.items.items() if name not in self.known.tests]
        for i in range(0, len(new), 200):
            while self.pool.full():
                self.learned()
            shard = new[i : i + 200]
            self.pool.submit(i, 3600, lambda shard=shard: cover.measure(shard, self.trials.run))
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
        tried = [m for m in found if self.args.equivalents or m.key() not in listed]
        ended = self.trials.ended_again(page, tried)
        alive, unreached = self.trials.swapped(page, [m for m in tried if m not in ended])
        again = unreached if self.args.quick else alive + unreached
        alive = alive * self.args.quick + self.trials.afresh(page, again)
        survived = sorted((m for m in alive if m.key() not in listed), key=lambda m: m.line)
        equal = [m for m in found if m.key() in listed]
        wrong = [m for m in equal if m not in alive] if self.args.equivalents else []
        ledger.report(page, found, equal, survived, wrong, time.monotonic() - start)
        self.survivors += len(survived)
        self.known.save()
        if self.args.write:
            ledger.save(page, found, equal, survived, self.known)


def differentiated(page: str) -> bool:
    """Nobody asks for a gradient through an optimiser's step or a combination of finished changes."""
    return not page.startswith(("optim/", "combine/"))
