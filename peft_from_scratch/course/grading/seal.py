"""While an answer is graded: after each call into its code, everything that a verdict rests on is as it was before it.

An answer could replace the judge for one comparison and put it back; who looks only at the end would not see it.
"""

import builtins
import sys
from types import FrameType

import torch

from . import guards
from .police import TRUSTED

__builtins__ = dict(vars(builtins))  # the functions below use these: an answer may replace the public ones
_setprofile, _getprofile = sys.setprofile, sys.getprofile
_functions, _dispatches = torch._C._len_torch_function_stack, torch._C._len_torch_dispatch_stack


class Sealed:
    """A context; `broken` is what an answer was caught at, or ""."""

    def __init__(self, recorded: guards.Guards):
        self.near, self.broken = guards.near(recorded), ""
        self.theirs: dict[str, bool] = {}  # by file
        self.modes: list[tuple[int, int]] = []

    def __enter__(self) -> "Sealed":
        sys.getprofile = type(None)  # gives None: the seal is not to be found
        _setprofile(self._hook)
        return self

    def __exit__(self, *error: object) -> None:
        _setprofile(None)
        sys.getprofile = _getprofile

    def _hook(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and self._enters(frame):
            self.modes.append((_functions(), _dispatches()))
        elif event == "return" and self._enters(frame):
            self._look()
        elif event == "c_call" and argument.__module__ == "_signal" and self._is_theirs(frame):
            self.broken = "the code uses signals, whose handlers see the grader"

    def _enters(self, frame: FrameType) -> bool:
        """Whether this is a learner's frame that one of ours called."""
        return self._is_theirs(frame) and not (frame.f_back and self._is_theirs(frame.f_back))

    def _is_theirs(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if file not in self.theirs:
            self.theirs[file] = not file.startswith(TRUSTED)
        return self.theirs[file]

    def _look(self) -> None:
        if names := guards.restore(guards.changes(self.near)):
            self.broken = self.broken or f"the code replaced {names[0]} while it was graded"
        if self.modes and self.modes.pop() != (_functions(), _dispatches()):
            self.broken = self.broken or "the code left a mode of torch on, which could change every result"
