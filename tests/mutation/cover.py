"""Which test runs which lines of the package, and how long it takes: measured once, then only for what has changed."""

import ast
import hashlib
import json
import time
from functools import cache
from pathlib import Path

from .page import Mutant
from .swap import PACKAGE, ROOT

CACHE = ROOT / ".pytest_cache" / "mutation-map.json"
Line = str  # "LoRA.forward+2": it stays true when the page's head grows


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def functions(page: str) -> tuple[tuple[str, int, int], ...]:
    """(name, first line, last line) of each outermost function or method."""
    found = []

    def walk(body, prefix=""):
        for node in body:
            if isinstance(node, ast.ClassDef):
                walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                found.append((prefix + node.name, node.lineno, node.end_lineno))

    walk(ast.parse((ROOT / PACKAGE / page).read_text()).body)
    return tuple(found)


def names(page: str, lines) -> list[Line]:
    """Numbers of lines as names; what is outside functions has none."""
    return sorted({f"{name}+{n - a}" for n in lines for name, a, b in functions(page) if a <= n <= b})


def measure(items, run) -> dict[str, dict]:
    """Run the items under coverage: {test: {seconds, passed, pages: {page: [line]}}}. Called in a child."""
    from coverage import Coverage

    package = str(ROOT / PACKAGE)
    coverage = Coverage(data_file=None, include=[f"{package}/*"], config_file=False)
    coverage.start()
    found = {}
    for i, item in enumerate(items):
        coverage.switch_context(item.nodeid)
        start = time.perf_counter()
        passed = run(item, items[i + 1] if i + 1 < len(items) else None)
        found[item.nodeid] = {"seconds": round(time.perf_counter() - start, 4), "passed": passed, "pages": {}}
    coverage.stop()
    data = coverage.get_data()
    for file in data.measured_files():
        page = Path(file).relative_to(package).as_posix()
        by_test: dict[str, list[int]] = {}
        for line, contexts in data.contexts_by_lineno(file).items():
            for context in contexts:
                by_test.setdefault(context, []).append(line)
        for test, lines in by_test.items():
            if test and (hit := names(page, lines)):
                found[test]["pages"][page] = hit
    return found


class Shared(dict):
    """Equal lists of lines are one object: a smaller process forks faster."""

    def __call__(self, read: dict) -> dict:
        return {k: self.setdefault(tuple(v), tuple(v)) if isinstance(v, list) else v for k, v in read.items()}


class Map:
    """What is known about each test, kept between runs under the hash of the test's file."""

    def __init__(self, files: set[str]):
        """`files`: those of the tests that were collected, read now, so that a later edit counts as a change."""
        kept = json.loads(CACHE.read_text(), object_hook=Shared()) if CACHE.exists() else {}
        self.files = {f: digest((ROOT / f).read_text()) for f in files}
        self.killers: dict[str, str] = kept.get("killers", {})  # what ended a mutant last time
        self.kills: dict[str, int] = {}  # how many each test has ended in this run
        same = {f for f in files if kept.get("files", {}).get(f) == self.files[f]}
        self.tests = {t: known for t, known in kept.get("tests", {}).items() if t.split("::")[0] in same}

    def add(self, found: dict[str, dict]) -> None:
        self.tests |= found

    def save(self) -> None:
        CACHE.parent.mkdir(exist_ok=True)
        beside = CACHE.with_suffix(".part")
        beside.write_text(json.dumps({"files": self.files, "tests": self.tests, "killers": self.killers}))
        beside.replace(CACHE)

    def killed(self, page: str, mutant: Mutant, test: str) -> None:
        self.kills[test] = self.kills.get(test, 0) + 1
        self.killers[f"{page} {mutant.key()}"] = test

    def tests_of(self, page: str, functions: set[str] | None = None) -> list[str]:
        """The tests that run one of these functions (None: any of the page). Not by line: what is kept may be older
        than the page, and lines move."""
        return [
            t for t, known in self.tests.items()
            if known["passed"] and page in known["pages"]
            and (functions is None or functions & {line.split("+")[0] for line in known["pages"][page]})
        ]  # fmt: skip

    def tests_for(self, page: str, mutant: Mutant, most: float) -> list[str]:
        """Those that run the function (for what runs at import: that touch the page), up to `most` seconds. First what
        killed this one before, then what runs the line, what kills most, and one quick case of each test function
        before the next."""
        lines = set(names(page, range(mutant.lines[0], mutant.lines[1] + 1)))
        found = self.tests_of(page, {line.split("+")[0] for line in lines} if mutant.function else None)
        turn, order = {}, {}
        for t in sorted(found, key=lambda t: (len(self.tests[t]["pages"]), self.tests[t]["seconds"])):
            function = t.split("[")[0]
            turn[function] = turn.get(function, 0) + 1
            dear = turn[function] * (self.tests[t]["seconds"] + 0.02)
            elsewhere = lines.isdisjoint(self.tests[t]["pages"][page])
            is_killer = t == self.killers.get(f"{page} {mutant.key()}")
            order[t] = (not is_killer, elsewhere, -self.kills.get(t, 0), dear)
        chosen, seconds = [], 0.0
        for t in sorted(order, key=order.get):
            seconds += self.tests[t]["seconds"]
            if seconds > most and chosen:
                break
            chosen.append(t)
        return chosen
