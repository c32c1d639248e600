"""How mutants are tried: by what ended them before, with their code swapped, in a process that imports anew."""

import gc
import signal
from dataclasses import replace

from . import swap
from .cover import Map
from .fresh import Fresh
from .page import Mutant
from .pool import Pool

UNREACHED = "reload"


class Trials:
    """`items`: the collected tests by name; `failed`: where the plugin notes failures; `most`: seconds a mutant."""

    def __init__(self, items: dict, known: Map, pool: Pool, fresh: Fresh, failed: list[str], most: float):
        self.items, self.known, self.pool, self.fresh, self.failed, self.most = items, known, pool, fresh, failed, most
        self.live = swap.live_functions()
        gc.freeze()

    def run(self, item, following) -> bool:
        """One test, in a child; an endless one ends the child."""
        self.failed.clear()
        signal.alarm(10 + int(10 * self.known.tests.get(item.nodeid, {"seconds": 60})["seconds"]))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        signal.alarm(0)
        return not self.failed

    def ended_again(self, page: str, tried: list[Mutant]) -> set[Mutant]:
        """What the same test ends as in an earlier run: asked first, many in one child."""
        pairs = [(m, self.known.killers.get(f"{page} {m.key()}")) for m in tried if m.function]
        pairs = [(m, test) for m, test in pairs if test in self.items]
        ended: set[Mutant] = set()
        for i in range(0, len(pairs), 50):
            some = pairs[i : i + 50]
            self.pool.submit(some, 600, lambda some=some: self.one_after_the_other(page, some))
            _, numbers = self.pool.finished()
            ended |= {some[n][0] for n in numbers} if isinstance(numbers, list) else set()
        return ended

    def one_after_the_other(self, page: str, pairs: list[tuple[Mutant, str]]) -> list[int]:
        """In a child: which mutants their test ends; none, where a test fails in the end with nothing mutated."""
        ended = []
        for n, (mutant, test) in enumerate(pairs):
            before = swap.in_place(page, mutant.function, mutant.text, self.live)
            if before and not self.run(self.items[test], None):
                ended.append(n)
            for function, code in before.items():
                function.__code__ = code
        return ended if all(self.run(self.items[test], None) for test in {test for _, test in pairs}) else []

    def swapped(self, page: str, tried: list[Mutant]) -> tuple[list[Mutant], list[Mutant]]:
        """Those that no test notices, and those that a swap cannot reach: all, where the page as it is fails too."""
        if tried and not any(self.try_all(page, [as_it_is(page, tried[0])], self.one_swapped, first=20)):
            print(f"{page} fails unmutated when it is swapped: its {len(tried)} mutants are imported afresh")
            return [], tried
        return self.try_all(page, tried, self.one_swapped)

    def afresh(self, page: str, tried: list[Mutant]) -> list[Mutant]:
        """Those that no test notices: all, where the page as it is fails too."""
        if tried and not any(self.try_all(page, [as_it_is(page, tried[0])], self.one_afresh, first=20)):
            print(f"{page} fails unmutated when it is imported afresh: its {len(tried)} mutants count as survivors")
            return tried
        return self.try_all(page, tried, self.one_afresh)[0]

    def try_all(self, page: str, tried: list[Mutant], how, first: int | None = None) -> tuple[list, list]:
        """Those that survive, and those unreached. `first`: show each only so many tests."""
        alive, unreached = [], []

        def one() -> None:
            mutant, answer = self.pool.finished()
            if answer == UNREACHED or (answer is None and how == self.one_swapped):
                unreached.append(mutant)
            elif not answer:
                alive.append(mutant)
            else:
                self.known.killed(page, mutant, answer)

        for mutant in tried:
            while self.pool.full():
                one()
            tests = self.known.tests_for(page, mutant, self.most)[:first]
            seconds = sum(self.known.tests[t]["seconds"] for t in tests)
            self.pool.submit(mutant, 120 + 10 * seconds, lambda m=mutant, t=tests: how(page, m, t))
        while self.pool.running:
            one()
        return alive, unreached

    def one_swapped(self, page: str, mutant: Mutant, tests: list[str]) -> str:
        """In a child: the name of the first test that fails, or nothing."""
        if not mutant.function or not swap.in_place(page, mutant.function, mutant.text, self.live):
            return UNREACHED
        for i, name in enumerate(tests):
            following = self.items[tests[i + 1]] if i + 1 < len(tests) else None
            if not self.run(self.items[name], following):
                return name
        return ""

    def one_afresh(self, page: str, mutant: Mutant, tests: list[str]) -> str:
        """The same where everything is imported anew: slower, and reaches what is made at import. What ended it before
        is asked alone, since many tests take long to collect."""
        before = [t for t in tests[:1] if t == self.known.killers.get(f"{page} {mutant.key()}")]
        for some in filter(None, (before, tests)):
            limit = 100 + 10 * sum(self.known.tests[t]["seconds"] for t in some)
            if name := self.fresh.first_failed(page, mutant.text, some, limit):
                return name
        return ""


def as_it_is(page: str, mutant: Mutant) -> Mutant:
    """A mutant that is none, for the same tests."""
    return replace(mutant, text=(swap.ROOT / swap.PACKAGE / page).read_text())
