"""One line of a results file: a finished run."""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Run:
    """One finished run, as it stands in the store. `status`: done, nan, memory or cannot (then `note` says why)."""

    task: str
    method: str
    family: str
    seed: int
    lr: float
    split: str
    status: str
    setting: str
    note: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    items: str | list[float] = ""
    exact: str = ""
    seconds: float = 0.0
    steps: int = 0
    provenance: dict[str, Any] = field(default_factory=dict)
    kind: str = "run"

    @property
    def key(self) -> tuple:
        return self.method, self.seed, self.lr, self.split

    @property
    def done(self) -> bool:
        return self.status == "done"


NAMES = {f.name for f in fields(Run)}
