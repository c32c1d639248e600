"""Questions that are answered by arranging: put lines in order, match two sides."""

import random
from typing import Literal

from pydantic import Field, model_validator

from .parts import Base, Line, Pair, Words, unique


def shuffled(items: list, seed: str) -> list:
    """The same order on every machine, so that a room can talk about "(b)"; never the order of the file."""
    order, rng = list(items), random.Random(seed)
    while len(items) > 1 and order == list(items):
        rng.shuffle(order)
    return order


class Order(Base):
    """Put `lines` in order (a Parsons problem). `code: true` if they are Python: then the order is run."""

    type: Literal["order"]
    lines: list[Line] = Field(min_length=3, max_length=9)
    distractors: list[Line] = Field(default_factory=list)
    code: bool = False
    verify: Words | None = None

    @model_validator(mode="after")
    def _lines_differ(self):
        unique([line.text for line in self.lines + self.distractors], "lines and distractors")
        if self.code and not self.verify:
            raise ValueError("an order of code lines needs `verify`, which is evaluated after the lines")
        return self

    def shown(self) -> list[Line]:
        """Lines and distractors as the learner sees them."""
        return shuffled(self.lines + self.distractors, self.id)

    @property
    def key(self) -> list[int]:
        """Positions in `shown()` of the right lines in the right order, from 0."""
        shown = self.shown()
        return [shown.index(line) for line in self.lines]


class Match(Base):
    """Give each left side its right side; `extra` right sides belong to none."""

    type: Literal["match"]
    pairs: list[Pair] = Field(min_length=2, max_length=8)
    extra: list[Line] = Field(default_factory=list)

    @model_validator(mode="after")
    def _sides_differ(self):
        unique([pair.left for pair in self.pairs], "left sides")
        unique([pair.right for pair in self.pairs] + [line.text for line in self.extra], "right sides")
        return self

    def shown(self) -> list[str]:
        """The right sides as the learner sees them."""
        return shuffled([pair.right for pair in self.pairs] + [line.text for line in self.extra], self.id)

    @property
    def key(self) -> list[int]:
        """For each pair the position of its right side in `shown()`, from 0."""
        shown = self.shown()
        return [shown.index(pair.right) for pair in self.pairs]
