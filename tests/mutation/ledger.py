"""What a mutation run found, page by page, in results/mutation.json; and which mutants change nothing, and why."""

import ast
import json
import os
from functools import cache
from pathlib import Path

import yaml

from .cover import Map, digest
from .page import Mutant, prose
from .swap import PACKAGE, ROOT

RESULTS = ROOT / "results" / "mutation.json"
EQUIVALENT = Path(__file__).parent / "equivalent.yaml"
HELPERS = ("conftest.py", "hosts.py", "contract.py", "peft_twin.py", "typecheck.py")


@cache
def equivalents() -> dict[str, dict[tuple[str, str, str], str]]:
    """{page: {(operator, before, after): why}}."""
    listed = yaml.safe_load(EQUIVALENT.read_text()) if EQUIVALENT.exists() else {}
    return {
        page: {(e["operator"], e["line"], e["becomes"]): e["why"] for e in entries}
        for page, entries in (listed or {}).items()
    }


class Bare(ast.NodeTransformer):
    """Without docstrings and cards, so that a change of words asks for no new run."""

    def generic_visit(self, node):
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list):
            node.body = [child for child in node.body if not prose(node, "body", child)] or [ast.Pass()]
        return node


def source_hash(page: str) -> str:
    return digest(ast.unparse(Bare().visit(ast.parse((ROOT / PACKAGE / page).read_text()))))


def tests_hash(page: str, known: Map) -> str:
    """Of the tests that touch the page, of what they all share, and of the table's rows that name it."""
    files = {t.split("::")[0] for t in known.tests_of(page)} | {f"tests/{name}" for name in HELPERS}
    for rows in (ROOT / "tests" / "rows").glob("*.py"):
        if Path(page).stem in rows.read_text():
            files.add(rows.relative_to(ROOT).as_posix())
    return digest("".join((ROOT / f).read_text() for f in sorted(files)))


def load() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"pages": {}}


def is_current(page: str, kept: dict, known: Map) -> bool:
    """Is it done, and neither page, tests nor its list of equivalents have changed since?"""
    entry = kept["pages"].get(page)
    if entry is None or entry["survived"]:
        return False
    listed = {(e["operator"], e["line"], e["becomes"]) for e in entry["equivalent"]}
    now = (source_hash(page), tests_hash(page, known), equivalents().get(page, {}).keys())
    return (entry["source"], entry["tests"], listed) == now


def save(page: str, found: list[Mutant], equal: list[Mutant], survived: list[Mutant], known: Map) -> None:
    """Put one page in; another run may have written in the meantime."""

    def listed(m: Mutant) -> dict[str, str]:
        return {"operator": m.operator, "line": m.before, "becomes": m.after}

    why = equivalents().get(page, {})
    kept = load()
    kept["pages"][page] = {
        "total": len(found), "killed": len(found) - len(equal) - len(survived),
        "equivalent": [listed(m) | {"why": why[m.key()]} for m in equal], "survived": [listed(m) for m in survived],
        "source": source_hash(page), "tests": tests_hash(page, known),
    }  # fmt: skip
    pages = dict(sorted(kept["pages"].items()))
    counts = {k: sum(p[k] for p in pages.values()) for k in ("total", "killed")}
    counts |= {k: sum(len(p[k]) for p in pages.values()) for k in ("equivalent", "survived")}
    said = "every fault of mutation/operators.py at every place of each page, but those listed as equivalent; no sample"
    counts = {"pages": len(pages)} | counts
    text = json.dumps(
        {"command": "python tests/mutate.py --write", "run": said, "all": counts, "pages": pages}, indent=1
    )
    beside = RESULTS.with_suffix(".part")
    beside.write_text(text + "\n")
    os.replace(beside, RESULTS)


def report(
    page: str, found: list[Mutant], equal: list[Mutant], survived: list[Mutant], wrong: list[Mutant], seconds: float
) -> None:
    """Print a page's line of the table, its survivors, and what equivalent.yaml says of it that is not so."""
    killed = len(found) - len(equal) - len(survived)
    counts = f"{killed:3} killed {len(equal):3} equivalent {len(survived):3} survived of {len(found):3}"
    print(f"{page:44} {counts}  {seconds:5.0f} s", flush=True)
    for m in survived:
        print(f"  {page}:{m.line} {m.operator}\n    - {m.before}\n    + {m.after}", flush=True)
    for m in wrong:
        print(f"  {page}:{m.line} is listed as equivalent, and a test fails: {m.after}")
    for operator, line, _ in equivalents().get(page, {}).keys() - {m.key() for m in found}:
        print(f"  equivalent.yaml: {page} has no such mutant any more: {operator}: {line}")
