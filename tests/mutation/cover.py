"""Which test runs which lines of the package, and how long it takes: measured once, then only for what has changed."""

import ast
import hashlib
import json
import time
from functools import cache
from pathlib import Path

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


class Map:
    """What is known about each test, kept between runs under the hash of the test's file."""

    def __init__(self, files: set[str]):
        """`files`: those of the tests that were collected, read now, so that a later edit counts as a change."""
        kept = json.loads(CACHE.read_text()) if CACHE.exists() else {}
        self.files = {f: digest((ROOT / f).read_text()) for f in files}
        self.killers: dict[str, str] = kept.get("killers", {})  # what ended a mutant last time, to be tried first
        same = {f for f in files if kept.get("files", {}).get(f) == self.files[f]}
        self.tests = {t: known for t, known in kept.get("tests", {}).items() if t.split("::")[0] in same}

    def add(self, found: dict[str, dict]) -> None:
        self.tests |= found

    def save(self) -> None:
        CACHE.parent.mkdir(exist_ok=True)
        beside = CACHE.with_suffix(".part")
        beside.write_text(json.dumps({"files": self.files, "tests": self.tests, "killers": self.killers}))
        beside.replace(CACHE)

    def tests_of(self, page: str, wanted: set[Line] | None = None) -> list[str]:
        """The tests that run one of these lines (None: any of the page), the quick ones first."""
        hit = [
            t for t, known in self.tests.items()
            if known["passed"] and page in known["pages"] and (wanted is None or wanted & set(known["pages"][page]))
        ]  # fmt: skip
        return sorted(hit, key=lambda t: self.tests[t]["seconds"])
