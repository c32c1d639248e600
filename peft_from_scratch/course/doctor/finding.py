"""What one check of the doctor says."""

from dataclasses import dataclass

SIGNS = {"ok": "✓", "note": "○", "problem": "✗"}


@dataclass(frozen=True)
class Finding:
    """`kind` is ok, note (something is less good) or problem (something will not run); `remedy` says what to do."""

    kind: str
    topic: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{SIGNS[self.kind]} {self.topic}: {self.what}" + (f" {self.remedy}" if self.remedy else "")
