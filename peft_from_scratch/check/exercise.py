"""What an exercise is: a reference, properties to test, hints, and wrong answers that must be rejected."""

from collections.abc import Callable
from dataclasses import dataclass

TIERS = ("core", "full", "stretch")
KINDS = ("code", "value", "prediction", "order")


@dataclass(frozen=True)
class Wrong:
    """A known-wrong cell body; `says` is a case-insensitive regex that the feedback must match.

    museum    the run in results/lessons/NN_museum.json that trained this fault, if one did
    """

    name: str
    source: str
    says: str
    museum: str = ""


@dataclass(frozen=True)
class Property:
    """One testable claim. `test(answer, rng)` returns None, or raises AssertionError("one sentence of advice").

    A failed `core` property caps the whole exercise at 40 %: without it the answer is not the method.
    """

    name: str
    test: Callable
    points: int = 1
    core: bool = False


@dataclass(frozen=True)
class Exercise:
    """One graded cell.

    defines    the name the cell must define; "a, b" for two names, then the answer is the tuple (a, b)
    reference  a cell body of at most 15 lines (25 where it holds a class)
    needs      free names of the reference that the notebook defines (besides those of earlier exercises)
    """

    name: str
    defines: str
    title: str
    tier: str
    difficulty: int
    minutes: int
    points: int
    unlocks: str
    reference: str
    properties: tuple[Property, ...]
    hints: tuple[str, str, str]
    remark: str
    wrong: tuple[Wrong, ...]
    kind: str = "code"
    time_limit: float = 5.0
    needs: tuple[str, ...] = ()

    def __post_init__(self):
        faults = self._faults()
        if faults:
            raise ValueError(f"exercise {self.name!r}: " + "; ".join(faults))

    @property
    def names(self) -> tuple[str, ...]:
        """The names the cell must define."""
        return tuple(part.strip() for part in self.defines.split(","))

    def _faults(self) -> list[str]:
        longest = 25 if "class " in self.reference else 15
        rules = {
            f"tier must be one of {TIERS}": self.tier in TIERS,
            f"kind must be one of {KINDS}": self.kind in KINDS,
            "difficulty must be 1 to 5": 1 <= self.difficulty <= 5,
            "points must be at least 1": self.points >= 1,
            "there must be three hints": len(self.hints) == 3,
            "there must be a property": len(self.properties) > 0,
            "property names must differ": len({p.name for p in self.properties}) == len(self.properties),
            f"the reference is longer than {longest} lines": len(self.reference.strip().splitlines()) <= longest,
        }
        return [text for text, holds in rules.items() if not holds]


@dataclass(frozen=True)
class Lesson:
    """One notebook's exercises, in the order in which it poses them; `requires` are ids of earlier lessons."""

    id: str
    slug: str
    title: str
    requires: tuple[str, ...]
    minutes: int
    exercises: tuple[Exercise, ...]
