"""A claim of the literature, and what became of it here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from ...measure.intervals import Interval, Verdict

if TYPE_CHECKING:
    from .evidence import Evidence

HELD, NOT_HELD, NOT_DECIDED = "held", "not held", "not decided"
EXPECTED = ("certain", "high", "medium", "low", "do not expect")  # how sure one could be before, from the literature
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's 97.5 % point, by the number of seeds


class Finding(NamedTuple):
    verdict: str
    figures: str


class Missing(Exception):
    """A claim's runs are not there: what makes them."""


@dataclass(frozen=True)
class Claim:
    """`test` says in its docstring's first paragraph what is claimed, looks at the evidence, and raises Missing where
    there is none. `source`: who says so."""

    expected: str
    source: str
    test: "Callable[[Evidence], Finding]"

    @property
    def name(self) -> str:
        return self.test.__name__.replace("_", " ")

    @property
    def text(self) -> str:
        return " ".join(self.test.__doc__.split("\n\n")[0].split()).removesuffix(".")


def decided(condition: bool) -> str:
    """For what is exact: there is no doubt left."""
    return HELD if condition else NOT_HELD


def lies(found: Interval, low: float, high: float) -> str:
    """Held where all of the interval lies between the bounds, not held where all of it lies outside on one side."""
    if low <= found.low and found.high <= high:
        return HELD
    return NOT_HELD if found.high < low or found.low > high else NOT_DECIDED


def equal(found: Verdict) -> str:
    return {"equivalent": HELD, "not equivalent": NOT_HELD}.get(found.word, NOT_DECIDED)


def together(verdicts: Sequence[str]) -> str:
    """A claim about several things: held if all are, not held if one is not."""
    return NOT_HELD if NOT_HELD in verdicts else NOT_DECIDED if NOT_DECIDED in verdicts else HELD


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean and Student's 95 % interval of one value a seed. ValueError for other than 2 to 5 seeds."""
    if len(values) not in T:
        raise ValueError(f"{len(values)} seeds: intervals over seeds need 2 to 5")
    half = T[len(values)] * stdev(values) / sqrt(len(values))
    return Interval(mean(values), mean(values) - half, mean(values) + half)


def write(found: Interval, sign: str = "+", digits: int = 3) -> str:
    return f"{found.mean:{sign}.{digits}f} [{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"
