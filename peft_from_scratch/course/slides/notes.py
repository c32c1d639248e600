"""What the instructor's page of a lesson says, cut up for the slides it belongs to."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROW = re.compile(r"^\| *(\d+) *\| *(.+?) *\|", re.MULTILINE)
PART = re.compile(r"^\*\*(.+?)\.?\*\*", re.MULTILINE)


@dataclass
class Notes:
    """The page's parts. `rows` are (minutes, what); `stuck` and the rest are its bold sections, as Markdown."""

    page: str = ""
    rows: list[tuple[int, str]] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)

    def opening(self) -> str:
        """For the first slide: the aim, what to do beforehand, the whole plan."""
        names = [name for name in self.parts if name.startswith(("Aim", "Before"))]
        plan = "\n".join(f"- {minutes} min: {what}" for minutes, what in self.rows)
        return "\n\n".join([*(self.parts[name] for name in names), plan]).strip()

    def exercise(self, number: int) -> str:
        """For an exercise: its line of the plan, and where people get stuck."""
        plan = [f"{minutes} min: {what}" for minutes, what in self.rows if _names(what, number)]
        stuck = re.findall(
            r"^- (\*Exercise \d+\.\*.*?)(?=^- |\Z)", self.parts.get("Where people get stuck", ""), re.M | re.S
        )
        mine = [" ".join(text.split()) for text in stuck if text.startswith(f"*Exercise {number}.*")]
        return "\n\n".join([*plan, *mine])

    def asking(self) -> str:
        """For a reveal: what to ask the room."""
        return self.parts.get("Ask the room", "")

    def closing(self) -> str:
        """For the last slides: pairing is over; what the fast do, what to cut, what people ask."""
        names = ("For the fast", "Shorter cut", "The shorter cut", "Common questions")
        return "\n\n".join(f"{name}: {self.parts[name]}" for name in names if name in self.parts)


def read_notes(path: Path) -> Notes:
    """The notes of a lesson; empty where it has no instructor's page."""
    if not path.is_file():
        return Notes()
    text = path.read_text(encoding="utf-8")
    marks = list(PART.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    parts = {mark[1]: text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)}
    return Notes(text, [(int(minutes), what) for minutes, what in ROW.findall(text)], parts)


def _names(what: str, number: int) -> bool:
    """True if "Exercise 3", "Exercises 3 and 4" or "Exercises 1 to 5" means this one."""
    for found in re.finditer(r"Exercises? (\d+)(?:,? (and|to) (\d+))?", what):
        first, last = int(found[1]), int(found[3] or found[1])
        if number in (range(first, last + 1) if found[2] == "to" else (first, last)):
            return True
    return False
