"""The learner's log: one JSON line an event, appended under a lock, so that two notebooks may write at once.

An event is a dict with `kind` and `time` (UTC). Kinds: check, hint, solution, predict, reveal, start_from, quiz.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from .room.learner import forward

_DRIVE = Path("/content/drive/MyDrive")  # Google Drive in Colab: it outlives the session
_memory: dict[Path, list[dict]] = {}  # what could not be written to that file
_told: set[Path] = set()


def progress_path() -> Path:
    """PFS_PROGRESS (a file, or a folder), else the mounted Drive in Colab, else the platform's data folder."""
    chosen = os.environ.get("PFS_PROGRESS")
    if chosen:
        path = Path(chosen).expanduser()
        return path / "progress.jsonl" if path.is_dir() else path
    folder = _DRIVE if _DRIVE.is_dir() else _data_folder()
    return folder / "peft_from_scratch" / "progress.jsonl"


def log_event(kind: str, **fields: object) -> None:
    """Append one event. Where the file cannot be written, say so once and keep the event in memory."""
    event = {"kind": kind, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
    line = json.dumps(event, default=_plain) + "\n"
    path = progress_path()
    try:
        _append(path, line)
    except OSError as error:
        _memory.setdefault(path, []).append(json.loads(line))
        _tell(
            path,
            f"Progress cannot be saved to {path} ({error.strerror or error}). It is kept in memory until this "
            "session ends; set PFS_PROGRESS to a file that can be written.",
        )
    forward(event, path)


def read_events(path: Path | None = None) -> list[dict]:
    """All events of a log (the learner's own, if not said), oldest first.

    Lines that are not events are moved aside into progress.corrupt.jsonl.
    """
    path = path or progress_path()
    good, bad = [], []
    try:
        good, bad = _parse(path)
        good = _set_aside(path) if bad else good
    except OSError as error:
        what = "cleaned" if bad else "read"
        _tell(path, f"{path} cannot be {what} ({error.strerror or error}); it is left as it is.")
    return good + _memory.get(path, [])


def rewrite(path: Path, keep: Callable[[dict], bool]) -> Path:
    """Keep only some events; all of them stay in a copy beside. Returns the copy."""
    with _lock(path):
        good, _ = _parse(path)
        aside = _free_name(path)
        shutil.copy2(path, aside)
        _replace(path, [event for event in good if keep(event)])
    return aside


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path), path.open("ab+") as file:
        if file.tell() and not _ends_with_newline(file):  # a process died in the middle of a line
            line = "\n" + line
        file.write(line.encode())


def _ends_with_newline(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _parse(path: Path) -> tuple[list[dict], list[bytes]]:
    good, bad = [], []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        event = _event(line)
        if event is not None:
            good.append(event)
        elif line.strip():
            bad.append(line)
    return good, bad


def _event(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def _set_aside(path: Path) -> list[dict]:
    with _lock(path):
        good, bad = _parse(path)  # again, now that nobody writes
        if not bad:
            return good
        aside = path.with_name(f"{path.stem}.corrupt.jsonl")
        with aside.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in bad))
        _replace(path, good)
    print(f"{len(bad)} unreadable line(s) of {path.name} were moved to {aside.name}; the rest was read.")
    return good


def _replace(path: Path, events: list[dict]) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    os.replace(beside, path)


def _free_name(path: Path) -> Path:
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    names = (path.with_name(f"{path.stem}.{stamp}{extra}.jsonl") for extra in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(name for name in names if not name.exists())


def _lock(path: Path) -> FileLock:
    return FileLock(f"{path}.lock", timeout=5)


def _tell(path: Path, sentence: str) -> None:
    if path not in _told:
        _told.add(path)
        print(sentence)


def _plain(value: object) -> object:
    """Tensors and numpy numbers as numbers, the rest as text."""
    try:
        return value.item()
    except (AttributeError, ValueError, RuntimeError):  # no tensor, or one of several numbers
        return str(value)


def _data_folder() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
