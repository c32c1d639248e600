"""Run a function in a forked child that may hang, die or lie, and get its answer back over a pipe.

A reply counts only behind a token that the parent made. In the child it lies where no code that runs there can find it.
"""

import builtins
import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from types import FrameType

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
MAX_REPLY = 2**20


@dataclass(frozen=True)
class Outcome:
    """`reply` of the function, or why there is none: "time", "died" (with `code` of waitpid) or "forged"."""

    reply: dict | None
    why: str = ""
    code: int = 0


def in_child(work: Callable[[], dict], prepare: Callable[[tuple[int, ...]], None], seconds: float) -> Outcome:
    """`prepare(descriptors to keep)`, then `work()`, in a fork; nothing of it is left running afterwards."""
    (read, write), token = os.pipe(), [secrets.token_hex(16).encode()]
    child = os.fork()
    if not child:
        os.close(read)
        _be_child(work, prepare, write, token)
    os.close(write)
    try:
        reply, why = _hear(read, token[0], time.monotonic() + seconds)
    finally:
        os.close(read)
        code = _end(child)
    return Outcome(reply, why, code)


def _be_child(work: Callable, prepare: Callable, pipe: int, token: list[bytes]) -> None:
    write, leave, ask = os.write, os._exit, sys.audit  # before anybody can replace them
    try:
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: if this process's parent is killed, so is it
        _lock_up(token, sys._getframe())
        prepare((pipe,))
        data = _json(work()).encode()[:MAX_REPLY]
        ask("pfs.token", token)
        data = token[0] + b"%08d" % len(data) + data
        while data:
            data = data[write(pipe, data) :]
        leave(0)
    except BaseException:
        leave(3)


def _lock_up(box: list[bytes], owner: FrameType) -> None:
    """Take the token out of the box and keep it in an audit hook, to which nothing leads: not the memory, not a frame.
    It is put back only when `owner`, the frame of `_be_child`, asks for it itself.
    """
    token, frame = box.pop(), sys._getframe
    sys.addaudithook(lambda event, args: event == "pfs.token" and frame(1) is owner and args[0].append(token))


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


def _hear(pipe: int, token: bytes, ends: float) -> tuple[dict | None, str]:
    head = _read(pipe, 40, ends)
    if head is None or len(head) < 40:
        return None, _reason(head)
    if head[:32] != token or not head[32:].isdigit():
        return None, "forged"
    body = _read(pipe, min(int(head[32:]), MAX_REPLY), ends)
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
