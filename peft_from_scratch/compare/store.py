"""Finished runs on disk, one JSON line each: what a sweep leaves, and from where it goes on.

Several processes may work on one folder. Reading and writing happen under a lock of the file; a run is claimed by a
lock of its own, which the system drops when its process dies, so nothing is ever claimed by the dead. A line that
cannot be read (a write that was killed half way, a full disk) is moved to `<file>.corrupt`, and its run is done again.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class Store:
    """The lines of `<folder>/<device>/<task>.jsonl`."""

    def __init__(self, folder: Path, device: str, task: str):
        self.path = Path(folder) / device / f"{task}.jsonl"
        self.locks = self.path.parent / ".locks"
        self.locks.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.locks / f"{task}.lock")

    def lines(self) -> list[dict]:
        """All lines that can be read; the others are moved aside."""
        with self.lock:
            whole = self.path.read_bytes() if self.path.exists() else b""
            found = [(line, parsed(line)) for line in whole.split(b"\n") if line.strip()]
            good = [(line, value) for line, value in found if value is not None]
            if len(good) < len(found) or (whole and not whole.endswith(b"\n")):
                self._set_aside([line for line, value in found if value is None], [line for line, _ in good])
        return [value for _, value in good]

    def add(self, line: dict) -> None:
        """Append one line. ValueError for a number that JSON does not have (nan, inf)."""
        text = json.dumps(line, allow_nan=False, ensure_ascii=False)
        self.lines()  # nothing is written behind a line that was cut short
        with self.lock, self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def claim(self, *key: object) -> Iterator[bool]:
        """Whether this process now has `key`, until the block is left; False where a living process has it."""
        name = hashlib.sha256(json.dumps([self.path.name, *map(str, key)]).encode()).hexdigest()[:24]
        lock = FileLock(self.locks / f"{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _set_aside(self, bad: list[bytes], good: list[bytes]) -> None:
        """Keep the unreadable beside, then put the rest in the file's place in one move."""
        if bad:
            aside = self.path.with_name(self.path.name + ".corrupt")
            with aside.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in bad))
            print(f"{self.path.name}: {len(bad)} unreadable line(s) moved to {aside.name}", flush=True)
        beside = self.path.with_name(self.path.name + ".part")
        beside.write_bytes(b"".join(line + b"\n" for line in good))
        os.replace(beside, self.path)


def parsed(line: bytes) -> dict | None:
    """The object in a line, or None."""
    try:
        value = json.loads(line)
    except ValueError:  # UnicodeDecodeError is one, too
        return None
    return value if isinstance(value, dict) else None
