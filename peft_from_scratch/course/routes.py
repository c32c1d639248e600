"""The routes through the course: which lessons, and whether their core exercises (●) or all of them."""

from dataclasses import dataclass

from ..check.exercise import Lesson
from ..check.lookup import lessons
from .lessons import has_notebook

ROUTES = {
    "3h": {"00": "core", "04": "core", "06": "core", "07": "core"},
    "1d": {"00": "core", "01": "core", "02": "core", "03": "core", "04": "all", "06": "core", "07": "all"},
    "full": None,
}


@dataclass(frozen=True)
class Leg:
    """A lesson of a route; `core` where only its core exercises belong to it."""

    lesson: Lesson
    core: bool


def route(path: str) -> tuple[list[Leg], list[str]]:
    """(the legs whose lessons are here, the ids of those that are not)."""
    here = {id: one for id, one in lessons().items() if has_notebook(one)}
    wanted = ROUTES[path] or dict.fromkeys(sorted(here), "all")
    legs = [Leg(here[id], kind == "core") for id, kind in wanted.items() if id in here]
    return legs, [id for id in wanted if id not in here]
