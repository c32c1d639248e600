"""The second fence, inside the child: Python's audit events, refused where a learner's code has no business.

It stops what is written in Python, also where there is no bubblewrap; compiled code is stopped by the sandbox alone.
An audit hook cannot be taken out again.
"""

import builtins
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from .withheld import withhold

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
_getframe, _getcwd = sys._getframe, os.getcwd

_ALWAYS = {
    "os.fork": "start a process", "os.forkpty": "start a process", "os.system": "start a process",
    "os.exec": "start a process", "os.posix_spawn": "start a process", "os.spawn": "start a process",
    "subprocess.Popen": "start a process", "pty.spawn": "start a process",
    "os.kill": "send a signal", "os.killpg": "send a signal", "signal.pthread_kill": "send a signal",
    "sys.settrace": "trace the grader", "sys.addaudithook": "watch the grader",
    "resource.setrlimit": "change a limit", "resource.prlimit": "change a limit",
}  # fmt: skip
_LEARNERS = {
    "sys.setprofile": "trace the grader",
    "ctypes.dlopen": "call C functions", "ctypes.dlsym": "call C functions",
    "ctypes.addressof": "read memory", "ctypes.string_at": "read memory",
    "ctypes.cdata": "read memory", "ctypes.cdata/buffer": "read memory",
    "gc.get_objects": "search the memory", "gc.get_referrers": "search the memory",
    "gc.get_referents": "search the memory", "sys._current_frames": "read the grader's variables",
}  # fmt: skip
_PATHS = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown",
          "os.truncate", "os.utime", "os.setxattr", "os.chdir", "shutil.move", "shutil.rmtree"}  # fmt: skip
_CODE = {"__code__", "__defaults__", "__kwdefaults__"}
_FRAMES = {"tb_frame", "gi_frame", "cr_frame", "ag_frame"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STDLIB = os.path.dirname(os.__file__)
_GIVE_FRAMES = (f"{_STDLIB}/inspect.py", f"{_STDLIB}/traceback.py", f"{_STDLIB}/logging/__init__.py")
_PACKAGE = str(Path(__file__).resolve().parents[2])
TRUSTED = (_PACKAGE, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen", "<@beartype",
            "<__array_function__", *filter(None, os.environ.get("PFS_LESSONS", "").split(os.pathsep)))  # fmt: skip


def install(folder: str, answers: tuple[str, ...]) -> list[str]:
    """Refuse from now on. `folder` may be written, the files below `answers` may not be read by a learner's code.

    Returns the list in which it writes what it refused.
    """
    refused: list[str] = []
    busy: list[bool] = []  # what the hook itself asks is an event too
    inside = os.path.realpath(folder) + "/"

    def refuse(what: str) -> None:
        if len(refused) < 20:
            refused.append(what)
        raise PermissionError(f"while it is graded, code may not {what}")

    def hook(event: str, args: tuple) -> None:
        if busy:
            return
        busy.append(True)
        try:
            judge(event, args)
        finally:
            busy.clear()

    def judge(event: str, args: tuple) -> None:
        if event in _ALWAYS:
            refuse(_ALWAYS[event])
        elif event == "open":
            _judge_open(args[0], args[2], inside, answers, refuse)
        elif event in _PATHS:
            _judge_paths(args, inside, refuse)
        elif event.startswith("socket."):
            refuse("use the network")
        elif event in _LEARNERS and _learner_called():
            refuse(_LEARNERS[event])
        elif (event == "sys._getframe" or event == "object.__getattr__" and args[1] in _FRAMES) and _learner_asked():
            refuse("read the grader's variables")
        elif event == "compile" and _learner_asked() and str(args[1]).startswith(TRUSTED):
            refuse("give its code another file's name")
        elif event in ("code.__new__", "marshal.loads") and _learner_asked():
            refuse("give its code another file's name")
        elif event == "object.__setattr__" and args[1] in _CODE and _is_ours(args[0]) and _learner_called():
            refuse("rewrite a function that is not its own")

    withhold()
    sys.addaudithook(hook)
    return refused


def _is_ours(function: object) -> bool:
    return getattr(function, "__code__", _is_ours.__code__).co_filename.startswith(TRUSTED)


def _judge_open(path: object, flags: object, inside: str, answers: tuple[str, ...], refuse: Callable) -> None:
    if isinstance(path, int):  # opened before, and judged then
        return
    full = _absolute(path)
    if isinstance(flags, int) and flags & _WRITES and full != "/dev/null" and not full.startswith(inside):
        refuse("write outside its folder")
    if full.startswith((*answers, "/proc/")) and _learner_called():
        refuse("read the answers from disk" if full.startswith(answers) else "look into processes")


def _judge_paths(args: tuple, inside: str, refuse: Callable) -> None:
    for each in args:
        if isinstance(each, (str, bytes)) and not f"{_absolute(each)}/".startswith(inside):
            refuse("change files outside its folder")


def _absolute(path: object) -> str:
    """A path without dots. Links are not followed: none that leads outside can be made, and it begins with none."""
    # str's and bytes' own methods: a subclass could tell of another path than the one that is opened
    text = bytes.decode(path, "utf-8", "surrogateescape") if isinstance(path, bytes) else str.__str__(path)
    parts: list[str] = []
    for part in (text if text.startswith("/") else f"{_getcwd()}/{text}").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _learner_called() -> bool:
    """Whether a learner's code is among the callers."""
    frame = _getframe()
    while frame is not None:
        if not frame.f_code.co_filename.startswith(TRUSTED):
            return True
        frame = frame.f_back
    return False


def _learner_asked() -> bool:
    """Whether a learner's code itself, or `inspect`, `traceback` or `logging` for it, asked for this."""
    frame = _getframe()
    while frame is not None and frame.f_code.co_filename in (__file__, *_GIVE_FRAMES):
        frame = frame.f_back
    return frame is not None and not frame.f_code.co_filename.startswith(TRUSTED)
