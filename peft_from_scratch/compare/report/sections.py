"""What the report says: sections made of sentences, figures and tables, from the lines of a results folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..statistics import MOST, REFERENCE, headline, multiplicity, tested
from ..tasks import TASKS
from . import figures, maps
from .others import beside_peft, of_claims, of_provenance, of_ranks
from .read import Table
from .rows import Row, cells, interval, rows_of
from .section import Section, source


def sections(folder: Path, tables: Sequence[Table], draws: int = 2000) -> Iterator[Section]:
    """The whole report, in order. The tables of few examples, one a size, make one section."""
    for device in dict.fromkeys(table.device for table in tables):
        first = {table.task: table for table in reversed(tables) if table.device == device}  # of a task's settings
        low = [table for table in first.values() if table.task.startswith("low-")]
        places: dict[str, int] = {}
        for table in (table for table in tables if table.device == device and table not in low):
            places[table.task] = places.get(table.task, 0) + 1
            yield of_task(table, draws, places[table.task])
        if low:
            yield of_few_examples(low, draws, first.get("sentiment"))
        yield from of_ranks(folder / device)
        yield from of_claims(folder / device)
    yield from beside_peft(folder)
    yield of_provenance(tables)


def of_task(table: Table, draws: int, place: int) -> Section:
    """One table with all of its figures; `place` counts the settings of a task."""
    rows, up, again = rows_of(table, draws), table.metric != "log_loss", f"-{place}" if place > 1 else ""
    stem = f"{table.device}-{table.task}{again}"
    section = Section(f"{table.task}{again} on {table.device}", [verdict(table)], source=source(table))
    differing = {row.method: row.difference for row in rows if row.difference}
    if differing:
        section.words.append(multiplicity(differing))
    training = [row.method for row in rows if row.trained]
    if given := [method for method in training if method not in table.searched()]:
        names = "all" if given == training else ", ".join(given)
        section.words.append(f"At rates that were not searched here: {names}.")
    add = section.figures.append
    if any(row.trained for row in rows):
        add((f"{stem}-scores", *figures.seeds_and_intervals(rows, table.name)))
    if any(row.trained and row.share is not None for row in rows):
        add((f"{stem}-costs", *figures.against_costs(rows, table.name, up)))
        add((f"{stem}-time", *figures.time_and_memory(rows)))
    if search := {m: tried for m, tried in table.searched().items() if any(run.done for run in tried.values())}:
        add((f"{stem}-rates", *maps.rate_map(search)))
        if any("other_loss" in run.metrics for tried in search.values() for run in tried.values()):
            add((f"{stem}-forgetting", *maps.forgetting(search, before(table), families(table))))
    section.tables.append((f"{table.task}: every row, from the best; [95 % interval]", cells(rows, table.name)))
    return section


def verdict(table: Table) -> str:
    """The comparison that was set beforehand: the best small method on dev against full, on test."""
    if table.metric == "log_loss":
        return "No margin was set for a loss: the differences to full fine-tuning stand in the table."
    if REFERENCE not in tested(table.runs):
        return f"No verdict yet: {REFERENCE} has no finished test run."
    try:
        found = headline(table.runs, table.costs, labels=table.groups)
    except ValueError as error:
        return f"No verdict yet: {error}."
    word, difference, margin = found.verdict
    return (
        f"Of {found.candidates} methods that train at most {MOST:.0%} of the numbers, {found.method} "
        f"({found.share:.2%}) was the best on dev. On test it differs from full fine-tuning by "
        f"{interval(difference, '+')} over {found.seeds} seeds: {word}, at a margin of {margin:.3f} set before any run."
    )


def of_few_examples(tables: Sequence[Table], draws: int, whole: Table | None = None) -> Section:
    """`whole`: the table of sentiment, as one more size for the methods that the others have."""
    by_size = {int(t.task.removeprefix("low-")): (t, rows_of(t, draws)) for t in tables}
    section = Section(f"few examples on {tables[0].device}")
    section.words.append(
        "Each seed draws its own training examples; few of them are seen more often. The rate is the one with the best "
        "accuracy on dev: with few examples the lowest log-loss can belong to a model that hardly learned."
    )
    if whole:
        size, few = TASKS["sentiment"].train, {row.method for _, rows in by_size.values() for row in rows}
        part = replace(whole, runs=[run for run in whole.runs if run.method in few])
        by_size[size] = part, rows_of(part, draws)
        section.words.append(f"{size:,}: the table of sentiment, where all seeds have the same examples.")
    by_size = dict(sorted(by_size.items()))
    section.source = "; ".join(source(t) for t, _ in by_size.values())
    sized = {n: rows for n, (_, rows) in by_size.items()}
    methods = dict.fromkeys(row.method for rows in sized.values() for row in rows if row.score)
    if any(row.trained for rows in sized.values() for row in rows):
        figure = maps.data_efficiency(sized, tables[0].name)
        section.figures.append((f"{tables[0].device}-few-examples", *figure))
    head, name = ["method", *(f"{n:,}" for n in sized)], tables[0].name
    scores = [[m, *(told(m, rows, "score") for rows in sized.values())] for m in methods]
    section.tables.append((f"{name} on test by the number of training examples", [head, *scores]))
    behind = [[m, *(told(m, rows, "difference") for rows in sized.values())] for m in methods]
    if behind := [line for line in behind if any(line[1:])]:
        section.tables.append((f"{name}, minus {REFERENCE}: paired by seed and by test item", [head, *behind]))
    return section


def told(method: str, rows: Sequence[Row], what: str) -> str:
    """A method's score, or its difference to full; "" where it has none."""
    row = next((row for row in rows if row.method == method), None)
    if row is None or getattr(row, what) is None:
        return ""
    return interval(row.score) if what == "score" else interval(row.difference.interval, "+")


def before(table: Table) -> float | None:
    """The other corpus's loss under the model as it comes."""
    found = [run.metrics["other_loss"] for run in table.runs if run.method == "zero-shot"]
    return found[0] if found else None


def families(table: Table) -> dict[str, str]:
    return {run.method: run.family for run in table.runs} | {REFERENCE: "full"}
