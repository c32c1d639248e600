"""The rows of a table: each method's scores and costs, those without training, and those that failed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean

from ...measure.intervals import Interval, as_scores, bootstrap
from ...plots import percent
from ..runs import Run
from ..statistics import REFERENCE, Difference, differences, tested
from .read import Table

MIB = 2**20


@dataclass
class Row:
    """A method. `score` is None where there is nothing to show but `note`. Costs are those of one training step."""

    method: str
    family: str
    note: str
    score: Interval | None = None
    seeds: list[float] = field(default_factory=list)
    difference: Difference | None = None
    log_loss: float | None = None
    rate: float | None = None
    time: Interval | None = None  # seconds of a step over those of full
    costs: dict = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        return self.score is not None and self.rate is not None

    @property
    def share(self) -> float | None:
        return self.costs["numbers"] / self.costs["total"] if "numbers" in self.costs else None


def rows_of(table: Table, draws: int = 2000) -> list[Row]:
    """Trained methods from the best score to the worst, then the rows without training, then what failed."""
    trained, up = tested(table.runs), table.metric != "log_loss"
    against = differences(table.runs, table.groups, draws) if REFERENCE in trained else {}
    rows = [trained_row(table, list(runs.values()), against, draws) for runs in trained.values()]
    rows.sort(key=lambda row: row.score.mean, reverse=up)
    still = [run for run in table.runs if run.split == "test" and run.done and not run.steps]
    rest = {run.method: run for run in table.runs if run.method not in trained and run.steps + (not run.done)}
    return rows + [still_row(table, run, draws) for run in still] + [failed_row(table, m) for m in rest]


def trained_row(table: Table, runs: list[Run], against: dict[str, Difference], draws: int) -> Row:
    runs = sorted(runs, key=lambda run: run.seed)
    score = bootstrap(as_scores([run.items for run in runs]), draws, groups=table.groups)
    row = Row(runs[0].method, runs[0].family, runs[0].note, score, [run.metrics[table.metric] for run in runs])
    row.log_loss = mean(run.metrics["log_loss"] for run in runs)
    row.difference, row.costs = against.get(row.method), table.costs.get(row.method, {})
    row.rate, row.time = runs[0].lr, table.times.get(row.method)
    return row


def still_row(table: Table, run: Run, draws: int) -> Row:
    """One run, and no rate: a method that nothing is trained for."""
    score = bootstrap(as_scores([run.items]), draws, groups=table.groups)
    return Row(
        run.method, run.family, run.note, score, [run.metrics[table.metric]], log_loss=run.metrics.get("log_loss")
    )


def failed_row(table: Table, method: str) -> Row:
    """A method without a finished test run: what its last run says."""
    runs = [run for run in table.runs if run.method == method]
    last, failed = runs[-1], [run for run in runs if not run.done]
    note = f"{failed[-1].status}: {failed[-1].note}" if failed else f"not on test yet: {len(runs)} runs on dev"
    return Row(method, last.family, note)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda r: r.method,
    "score": lambda r: interval(r.score),
    "minus full": lambda r: interval(r.difference.interval, "+") if r.difference else "",
    "p, Holm": lambda r: f"{r.difference.adjusted:.3f}" if r.difference else "",
    "log-loss": lambda r: "" if r.log_loss is None else f"{r.log_loss:.3f}",
    "seeds": lambda r: str(len(r.seeds)) if r.trained else "",
    "rate": lambda r: f"{r.rate:.1e}" if r.trained else "",
    "trained": lambda r: f"{r.costs['numbers']:,}" if r.share is not None else "",
    "share": lambda r: percent(r.share) if r.share is not None else "",
    "GFLOP a step": lambda r: f"{r.costs['flops'] / 1e9:.1f}" if r.share is not None else "",
    "MiB": lambda r: f"{r.costs['memory'] / MIB:.0f}" if r.share is not None else "",
    "file, MiB": lambda r: f"{r.costs['file'] / MIB:.2f}" if r.share is not None else "",
    "time / full": lambda r: f"{r.time.mean:.2f} [{r.time.low:.2f}, {r.time.high:.2f}]" if r.time else "",
    "settings": lambda r: r.note or r.costs.get("note", ""),
}


def interval(found: Interval | None, sign: str = "") -> str:
    return "failed" if found is None else f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def cells(rows: list[Row], score: str) -> list[list[str]]:
    """The head and the body of a table; `score`: what the second column is called."""
    columns = {name: cell for name, cell in COLUMNS.items() if name != score}  # a loss is told once
    head = [score if name == "score" else name for name in columns]
    return [head, *([cell(row) for cell in columns.values()] for row in rows)]
