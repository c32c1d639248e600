"""Bring progress from another machine or an ended session into this log: both are kept, in the order of time."""

import json
from pathlib import Path

from filelock import FileLock

from .errors import CourseError
from .files import write
from .progress import progress_path, read_events, rewrite

MAX_BYTES = 100 * 2**20


def merge(path: Path) -> str:
    """Add the events of an exported log; those that are here already are not added twice. Returns a sentence."""
    if not path.is_file():
        raise CourseError(f"There is no file {path}. Export one first: peft-course progress --export FILE")
    if path.stat().st_size > MAX_BYTES:
        raise CourseError(f"{path} is larger than any log of progress ({MAX_BYTES >> 20} MB); it was not read.")
    theirs, unreadable = _read(path)
    if not theirs:
        raise CourseError(f"{path} holds no progress: it is not what `progress --export` writes.")
    own = progress_path()
    own.parent.mkdir(parents=True, exist_ok=True)
    kept = f" The log as it was is {rewrite(own, lambda event: True)}." if own.exists() else ""
    with FileLock(f"{own}.lock", timeout=5):
        ours = read_events(own)
        known = {_line(event) for event in ours}
        new = {_line(event): event for event in theirs if _line(event) not in known}
        both = sorted([*ours, *new.values()], key=lambda event: str(event.get("time")))
        write(own, "".join(json.dumps(event) + "\n" for event in both))
    odd = f" {unreadable} lines could not be read." if unreadable else ""
    return f"{len(new)} of {len(theirs)} events of {path} were new, and are in {own} now.{odd}{kept}"


def _read(path: Path) -> tuple[list[dict], int]:
    """(events, number of lines that are none); the file itself is left as it is."""
    events = [_event(line) for line in path.read_bytes().splitlines() if line.strip()]
    good = [event for event in events if event]
    return good, len(events) - len(good)


def _event(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    named = isinstance(event, dict) and isinstance(event.get("kind"), str) and isinstance(event.get("time"), str)
    return event if named else None


def _line(event: dict) -> str:
    return json.dumps(event, sort_keys=True)
