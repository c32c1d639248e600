"""Sections that are no task's: ranks, claims, Hugging Face peft, provenance."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import maps
from .read import CLAIMS, Table, add_line, made_with, read_lines
from .section import Section, source

RESULTS = Path(__file__).resolve().parents[3] / "results"


def of_ranks(folder: Path) -> Iterator[Section]:
    """The map of rates and ranks, from the runs of the claims about ranks."""
    for table in claim_tables(folder):
        section = Section(f"rate and rank on {folder.name}", source=source(table))
        for i, pattern in enumerate((r"LoRA r(\d+)", r"LoRA r(\d+), alpha 2r")):
            ranks = {m: re.fullmatch(pattern, m) for m in table.searched()}
            in_order = sorted((int(found[1]), m) for m, found in ranks.items() if found)
            if len(in_order) > 1:
                figure = maps.rate_map({m: table.searched()[m] for _, m in in_order}, "rank")
                section.figures.append((f"{folder.name}-{table.task}-ranks-{i}", *figure))
        if section.figures:
            yield section


def claim_tables(folder: Path) -> list[Table]:
    tables: dict[tuple, Table] = {}
    for path in sorted(folder.glob(f"{CLAIMS}*.jsonl")):
        for line in read_lines(path):
            key = folder.name, path.stem, line.get("setting", "")
            add_line(tables.setdefault(key, Table(*key)), line)
    return list(tables.values())


def of_claims(folder: Path) -> Iterator[Section]:
    """The verdicts that `compare claims` left."""
    path = folder / "claims.json"
    if not path.exists():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    head = ["claim", "how sure one could be", "verdict here", "figures"]
    body = [[c["text"], c["expected"], c["verdict"], c["figures"]] for c in found["claims"]]
    counts = {word: sum(c["verdict"] == word for c in found["claims"]) for word in ("held", "not held", "not decided")}
    words = f"Of {len(body)} claims of the literature " + ", ".join(f"{n} {w}" for w, n in counts.items()) + "."
    yield Section(
        f"claims on {folder.name}", [words], tables=[("Claims, tested here", [head, *body])], source=found["code"]
    )


def beside_peft(folder: Path) -> Iterator[Section]:
    """Ratios to Hugging Face peft from the files that tests/speed.py and tests/against_peft.py write."""
    section = Section("beside Hugging Face peft")
    if speed := library_file(folder, "speed.json"):
        figure = maps.beside_peft(speed["ratio"], "time of a training step")
        section.figures.append(("peft-time", *figure))
        section.source = f"peft {speed['peft']}, torch {speed['torch']}, {speed['machine']}, threads {speed['threads']}"
    if against := library_file(folder, "against_peft.json"):
        for key, what in (("saved", "bytes saved for backward"), ("peak", "peak bytes of a step")):
            ratios = {m: {"median": line[key]} for m, line in against["bytes"].items() if key in line}
            section.figures.append((f"peft-{key}", *maps.beside_peft(ratios, what)))
        if against["quality"]:
            section.tables.append(("Trained by both from the same start, in the same order", against_cells(against)))
    if section.figures:
        yield section


def against_cells(against: dict) -> list[list[str]]:
    head = ["method", "accuracy, ours", "accuracy, peft's", "the same answer", "most a loss differs", "steps", ""]
    return [head] + [
        [
            m,
            f"{q['accuracy']:.4f}",
            f"{q['accuracy_peft']:.4f}",
            f"{q['agree']:.4f}",
            f"{q['loss']:.1e}",
            str(q["steps"]),
            q.get("remark", ""),
        ]
        for m, q in against["quality"].items()
    ]


def library_file(folder: Path, name: str) -> dict | None:
    """Beside the runs, or where the project keeps it."""
    found = [place / name for place in (folder, folder.parent, RESULTS) if (place / name).exists()]
    return json.loads(found[0].read_text(encoding="utf-8")) if found else None


def of_provenance(tables: Sequence[Table]) -> Section:
    head = ["made with", "value", "runs"]
    body = [[key, value, str(n)] for key, counts in made_with(tables).items() for value, n in counts.items()]
    return Section("provenance", tables=[("What every run was made with", [head, *body])])
