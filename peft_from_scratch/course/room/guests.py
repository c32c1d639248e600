"""Who is in the room, as far as they want to be seen: a chosen name, the last exercise, points, and predictions.

Nothing here leaves the room: it is kept in one file beside the wheels, and gone when that is deleted.
"""

import json
import math
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..files import write

MOST = 200  # guests; a room has thirty
FORGET = 24 * 3600  # seconds after which a guest who said nothing is gone


class Leave(BaseModel):
    """A learner goes. `id` is a random number that only this learner has."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(pattern=r"^[0-9a-f]{32}$")


class Tell(Leave):
    """What one learner's notebook tells the room."""

    name: str = Field(min_length=1, max_length=40)
    lesson: str = Field(default="", max_length=40)
    exercise: str = Field(default="", max_length=80)
    status: str = Field(default="", max_length=20)
    prediction: str = Field(default="", max_length=80)
    guess: float | None = None

    @field_validator("guess")
    @classmethod
    def finite(cls, value):
        if value is not None and not math.isfinite(value):
            raise ValueError("a guess is a finite number")
        return value


class Full(Exception):
    """There are more guests than a room holds."""


class Guests:
    """Guests by id, kept in a file that is replaced whole."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, dict] = {}
        try:
            self.rows = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            pass  # a first start, or a file that a crash cut short: the next messages fill it again

    def tell(self, message: Tell) -> None:
        """Note what a learner did. Raises Full for one too many."""
        self.rows = {id: row for id, row in self.rows.items() if time.time() - row["time"] < FORGET}
        if message.id not in self.rows and len(self.rows) >= MOST:
            raise Full(f"{MOST} guests are here already")
        row = self.rows.setdefault(message.id, {"passed": [], "guesses": {}})
        row |= {"name": message.name, "time": time.time()}
        if message.exercise:
            row |= {"lesson": message.lesson, "exercise": message.exercise, "status": message.status}
            if message.status == "passed" and message.exercise not in row["passed"]:
                row["passed"] = [*row["passed"], message.exercise][-500:]
        if message.prediction and message.guess is not None and len(row["guesses"]) < 500:
            row["guesses"].setdefault(message.prediction, message.guess)  # the first counts: later ones know more
        self.keep()

    def leave(self, message: Leave) -> None:
        if self.rows.pop(message.id, None):
            self.keep()

    def keep(self) -> None:
        write(self.path, json.dumps(self.rows))

    def seen(self) -> dict:
        """What the page shows: nobody's id, and guesses without names."""
        rows = sorted(self.rows.values(), key=lambda row: row["name"].casefold())
        guests = [
            {
                "name": row["name"],
                "lesson": row.get("lesson", ""),
                "exercise": row.get("exercise", ""),
                "status": row.get("status", ""),
                "passed": len(row["passed"]),
                "ago": int(time.time() - row["time"]),
            }
            for row in rows
        ]
        guesses: dict[str, list[float]] = {}
        for row in rows:
            for name, guess in row["guesses"].items():
                guesses.setdefault(name, []).append(guess)
        return {"guests": guests, "predictions": {name: sorted(guesses[name]) for name in sorted(guesses)}}


def read(kind: type[Leave], body: bytes) -> Leave:
    """A message of this kind from a request's body; ValueError with one sentence where it is none."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}") from None
