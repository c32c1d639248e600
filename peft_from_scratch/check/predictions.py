"""Predict before you run: a number and the range one is 80 % sure of, compared at once; calibration over the course."""

import math
from dataclasses import dataclass

from ..course.progress import log_event, read_events
from .words import say, wrap

AIM = 0.8  # how often a well calibrated learner's range holds the result


@dataclass(frozen=True)
class Compared:
    """One prediction beside its result."""

    name: str
    guess: float
    low: float
    high: float
    actual: float

    @property
    def inside(self) -> bool:
        return self.low <= self.actual <= self.high

    @property
    def place(self) -> float:
        """Where the result fell: -1 is the lower end of the range, 1 the upper end, and what lies beyond is outside."""
        if self.low == self.high:
            return 0.0 if self.inside else math.copysign(math.inf, self.actual - self.low)
        return (self.actual - self.low) / ((self.high - self.low) / 2) - 1


@dataclass(frozen=True)
class Calibration:
    """`rate` is the share of results inside their range (None before the first); well calibrated is 0.8."""

    rows: tuple[Compared, ...]

    @property
    def rate(self) -> float | None:
        return sum(row.inside for row in self.rows) / len(self.rows) if self.rows else None

    def places(self) -> dict[str, list[float]]:
        """lesson -> where each result fell in its range, for plots.calibration."""
        found: dict[str, list[float]] = {}
        for row in sorted(self.rows, key=lambda row: row.name.split(".")[0]):
            found.setdefault(row.name.split(".")[0], []).append(row.place)
        return found

    def __str__(self) -> str:
        if not self.rows:
            return "No prediction has been compared yet."
        table = [f"{'prediction':<24}{'guess':>10}{'range':>22}{'result':>10}"]
        for row in self.rows:
            span = f"{number(row.low)} to {number(row.high)}"
            table.append(
                f"{row.name:<24}{number(row.guess):>10}{span:>22}{number(row.actual):>10}"
                f"  {'inside' if row.inside else 'outside'}"
            )
        hits = sum(row.inside for row in self.rows)
        return "\n".join([*table, f"{hits} of {len(self.rows)} inside their range ({self.rate:.0%}); aim: {AIM:.0%}."])

    __repr__ = __str__


def predict(name: str, guess: object = ..., interval: object = ..., *, low: object = ..., high: object = ...) -> None:
    """Store a guess and the range one is 80 % sure of: predict("00.share", my_guess, my_range).

    `interval` is (low, high); or give low= and high=. Nothing is stored, and a sentence says why, where a value is
    missing (`...`) or makes no sense. The first prediction that is compared counts.
    """
    values, fault = _read(guess, interval, low, high)
    if fault:
        say(*wrap(f"{'○' if fault == MISSING else '✗'} {name}: {fault}"))
        return
    guess, low, high = values
    log_event("predict", name=name, lesson=name.split(".")[0], guess=guess, low=low, high=high)
    say(f"{name}: you said {number(guess)}, and are 80 % sure of {number(low)} to {number(high)}.")


def reveal(name: str, actual: object) -> None:
    """Compare the prediction with what was measured: inside the range? by what factor off? One sentence, logged."""
    value = _number(actual)
    if value is None:
        say(f"✗ {name}: the result is {actual!r}, not a finite number; nothing is compared.")
        return
    made = [event for event in _events("predict") if event["name"] == name]
    if not made:
        say(f"{name}: {number(value)} (no prediction made)")
        return
    row = Compared(name, made[-1]["guess"], made[-1]["low"], made[-1]["high"], value)
    log_event(
        "reveal",
        name=name,
        lesson=name.split(".")[0],
        guess=row.guess,
        low=row.low,
        high=row.high,
        actual=value,
        inside=row.inside,
    )
    say(
        *wrap(
            f"{name}: {number(value)}. You said {number(row.guess)} ({number(row.low)} to {number(row.high)}): "
            f"{'inside' if row.inside else 'outside'} your range, {off(row.guess, value)}."
        )
    )


def calibration() -> Calibration:
    """All compared predictions, the first comparison of each: a later guess knows the answer."""
    rows: dict[str, Compared] = {}
    for event in _events("reveal"):
        row = Compared(event["name"], event["guess"], event["low"], event["high"], event["actual"])
        rows.setdefault(row.name, row)
    return Calibration(tuple(rows.values()))


def off(guess: float, actual: float) -> str:
    """How far off: a factor where both have one sign, else a difference."""
    if guess == actual:
        return "exactly right"
    if guess * actual <= 0:
        return f"off by {number(abs(guess - actual))}"
    factor = max(guess / actual, actual / guess)
    if factor < 1.005:
        return "almost exactly right"
    return f"{number(factor)} times too {'high' if guess > actual else 'low'}"


def number(value: float) -> str:
    """Three significant digits, and thousands separators: 0.325, 73,728, 1.2e+09."""
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


MISSING = "no prediction made"


def _events(kind: str) -> list[dict]:
    wanted = {"name", "guess", "low", "high", "actual"} - ({"actual"} if kind == "predict" else set())
    return [event for event in read_events() if event["kind"] == kind and wanted <= event.keys()]


def _read(guess: object, interval: object, low: object, high: object) -> tuple[tuple, str | None]:
    """((guess, low, high), None), or ((), what is wrong)."""
    if interval is not Ellipsis:
        if not isinstance(interval, (tuple, list)) or len(interval) != 2:
            return (), "the range is two numbers, (low, high)."
        low, high = interval
    if any(each is Ellipsis for each in (guess, low, high)):
        return (), MISSING
    values = tuple(_number(each) for each in (guess, low, high))
    if None in values:
        wrong = (guess, low, high)[values.index(None)]
        return (), f"{wrong!r} is not a finite number; write it without quotes or units."
    guess, low, high = values
    if low > high:
        return (), f"the range is upside down: {number(low)} is more than {number(high)}."
    if not low <= guess <= high:
        return (), f"your guess {number(guess)} lies outside your own range, {number(low)} to {number(high)}."
    return values, None


def _number(value: object) -> float | None:
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        value = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return value if math.isfinite(value) else None
