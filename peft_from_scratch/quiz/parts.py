"""The parts that quiz questions are made of. Every answer that tempts has a place for its feedback."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Words = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Part(BaseModel):
    """The base of every model here: unknown fields and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Choice(Part):
    """One choice. `feedback` says why it tempts, or why it is right; `verify` must be true for right ones only."""

    text: Words
    feedback: Words
    correct: bool = False
    verify: Words | None = None


class Near(Part):
    """A wrong number that a known slip leads to; `verify`, if given, is the slip."""

    value: float
    feedback: Words
    verify: Words | None = None


class Slip(Part):
    """A wrong printed text that a known slip leads to."""

    text: Words
    feedback: Words


class Line(Part):
    """One line to put in order; in a distractor, `feedback` says why it does not belong."""

    text: Words
    feedback: Words


class Pair(Part):
    """Two things that belong together; the value of `verify` must be `right`."""

    left: Words
    right: Words
    feedback: Words
    verify: Words | None = None


class Tolerance(Part):
    """How far from the key is still right: the larger of `abs` and `rel` times the key."""

    abs: float = Field(0.0, ge=0)
    rel: float = Field(0.0, ge=0)


class Base(Part):
    """What every question has. The id never changes: scores and exports hang on it."""

    id: Name
    prompt: Words
    hint: Words
    explanation: Words
    tags: list[Name] = Field(min_length=1)


def unique(texts: list[str], what: str) -> None:
    """Raise ValueError if two of `texts` are equal."""
    twice = {text for text in texts if texts.count(text) > 1}
    if twice:
        raise ValueError(f"{what} must differ; found twice: {', '.join(sorted(twice))}")
