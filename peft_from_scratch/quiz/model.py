"""What a quiz is: seven kinds of question, each with feedback for every answer that tempts.

`verify` holds a Python expression whose value must be the key. Tests evaluate it (quiz/verify.py);
grading never does, so a learner's quiz runs no code from the file.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .arrange import Match, Order
from .parts import Base, Choice, Near, Part, Slip, Tolerance, Words, unique


class Chosen(Base):
    """Fields that single and multi share."""

    choices: list[Choice] = Field(min_length=2, max_length=8)

    @model_validator(mode="after")
    def _choices_differ(self):
        unique([choice.text for choice in self.choices], "choices")
        return self

    @property
    def key(self) -> list[int]:
        """Positions of the correct choices, from 0."""
        return [i for i, choice in enumerate(self.choices) if choice.correct]


class Single(Chosen):
    """Exactly one choice is right."""

    type: Literal["single"]

    @model_validator(mode="after")
    def _one_key(self):
        if len(self.key) != 1:
            raise ValueError(f"single needs exactly one correct choice, this has {len(self.key)}")
        return self


class Multi(Chosen):
    """One or more choices are right."""

    type: Literal["multi"]

    @model_validator(mode="after")
    def _some_key(self):
        if not self.key:
            raise ValueError("multi needs at least one correct choice, this has none")
        return self


class Numeric(Base):
    """A number. `verify` must give the key at the key's own decimals."""

    type: Literal["numeric"]
    answer: float
    verify: Words
    unit: str = ""
    tolerance: Tolerance = Tolerance()
    near: list[Near] = Field(default_factory=list)
    otherwise: Words  # the feedback for a wrong number that is none of `near`

    def accepts(self, value: float) -> bool:
        """True if `value` lies within the tolerance."""
        slack = max(self.tolerance.abs, self.tolerance.rel * abs(self.answer))
        return abs(value - self.answer) <= slack + 1e-12 * abs(self.answer)

    @model_validator(mode="after")
    def _near_is_wrong(self):
        for near in self.near:
            if self.accepts(near.value):
                raise ValueError(f"the near miss {near.value:g} lies within the tolerance, so it counts as right")
        return self


class Output(Base):
    """Predict what `code` prints. The first of `accept` is what it prints; the rest are other ways to write it."""

    type: Literal["output"]
    code: Words
    accept: list[Words] = Field(min_length=1)
    near: list[Slip] = Field(default_factory=list)
    otherwise: Words


class Self(Base):
    """An open question. The learner writes, reads the model answer and ticks the points of the rubric."""

    type: Literal["self"]
    model_answer: Words
    rubric: list[Words] = Field(min_length=2, max_length=6)


Question = Single | Multi | Numeric | Output | Order | Match | Self


class Quiz(Part):
    """One bank: the questions of one lesson."""

    schema_version: Literal[1] = Field(alias="schema")
    quiz: Annotated[str, Field(pattern=r"^\d\d$")]  # in quotes: YAML reads 00 as 0
    title: Words
    pass_mark: float = Field(0.8, gt=0, le=1)
    questions: list[Annotated[Question, Field(discriminator="type")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids(self):
        ids = [question.id for question in self.questions]
        unique(ids, "question ids")
        foreign = [name for name in ids if not name.startswith(f"{self.quiz}-")]
        if foreign:
            raise ValueError(f"question ids start with '{self.quiz}-' here; not so: {', '.join(foreign)}")
        return self
