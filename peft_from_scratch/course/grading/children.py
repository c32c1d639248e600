"""Run a function in a forked child that may hang, die or lie, and get its answer back over a pipe.

The child shows a secret that it is told only when its work is done: code that ran before never saw it.
"""

import builtins
import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
MAX_REPLY = 2**20
_READY = b"ready"


@dataclass(frozen=True)
class Outcome:
    """`reply` of the function, or why there is none: "time", "died" (with `code` of waitpid) or "forged"."""

    reply: dict | None
    why: str = ""
    code: int = 0


def in_child(work: Callable[[], dict], prepare: Callable[[tuple[int, ...]], None], seconds: float) -> Outcome:
    """`prepare(descriptors to keep)`, then `work()`, in a fork; nothing of it is left running afterwards."""
    up, down = os.pipe(), os.pipe()  # (read, write): the reply comes up, the secret goes down
    child = os.fork()
    if not child:
        os.close(up[0]), os.close(down[1])
        _be_child(work, prepare, up[1], down[0])
    os.close(up[1]), os.close(down[0])
    try:
        reply, why = _converse(up[0], down[1], time.monotonic() + seconds)
    finally:
        os.close(up[0]), os.close(down[1])
        code = _end(child)
    return Outcome(reply, why, code)


def _be_child(work: Callable, prepare: Callable, up: int, down: int) -> None:
    write, read, leave = os.write, os.read, os._exit  # before anybody can replace them
    try:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: if this process's parent is killed, so is it
        prepare((up, down))
        data = _json(work()).encode()[:MAX_REPLY]
        write(up, _READY)
        secret = read(down, 32)
        data = secret + b"%08d" % len(data) + data
        while data:
            data = data[write(up, data) :]
        leave(0)
    except BaseException:
        leave(3)


def _json(value: object) -> str:
    """A reply as JSON. Python's own encoder could have been replaced; this one is made of what cannot."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(key)}:{_json(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_json, value)) + "]"
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    return str(int(value))


def _converse(up: int, down: int, ends: float) -> tuple[dict | None, str]:
    secret = secrets.token_hex(16).encode()
    ready = _read(up, len(_READY), ends)
    if ready != _READY:
        return None, _reason(ready)
    with contextlib.suppress(BrokenPipeError):
        os.write(down, secret)
    head = _read(up, 40, ends)
    if head is None or len(head) < 40:
        return None, _reason(head)
    if head[:32] != secret or not head[32:].isdigit():
        return None, "forged"
    body = _read(up, min(int(head[32:]), MAX_REPLY), ends)
    try:
        return json.loads(body), ""
    except (ValueError, TypeError):
        return None, _reason(body)


def _reason(data: bytes | None) -> str:
    return "time" if data is None else "forged" if data else "died"


def _read(fd: int, size: int, ends: float) -> bytes | None:
    """`size` bytes, fewer at the end of the pipe, None where time ran out."""
    data = b""
    while len(data) < size:
        if not select.select([fd], [], [], max(0.0, ends - time.monotonic()))[0]:
            return None
        part = os.read(fd, size - len(data))
        if not part:
            break
        data += part
    return data


def _end(child: int) -> int:
    """Kill the child's whole group, then whatever left it: orphans come to this process, which adopts them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    while orphans := _children():
        for each in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)
    return code


def _children() -> list[int]:
    try:
        return list(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    except OSError:
        return []


def adopt_orphans() -> None:
    """Grandchildren whose parent dies become children of this process (Linux)."""
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def hide_memory() -> None:
    """No process of the same user may read this one's memory or descriptors (Linux)."""
    _prctl(4, 0)  # PR_SET_DUMPABLE


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError):  # macOS has none
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
