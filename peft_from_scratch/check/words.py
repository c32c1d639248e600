"""Say what happened in one sentence: no traceback, but the line of the learner's code it happened at."""

import builtins
import importlib.util
import sys
import sysconfig
import textwrap
import traceback
from pathlib import Path

WIDTH = 96
_PACKAGE = str(Path(__file__).parent.parent)
_TORCH = importlib.util.find_spec("torch")  # found, not loaded
_TORCH_AT = _TORCH.submodule_search_locations if _TORCH else ()
_LIBRARIES = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *_TORCH_AT})
_PLAIN = str.maketrans({"✓": "+", "✗": "x", "○": "o", "–": "-", "…": "..."})


def say(*lines: str) -> None:
    """Print; where the terminal cannot encode ✓ and ✗, with plain signs instead."""
    for line in lines:
        try:
            builtins.print(line)
        except UnicodeEncodeError:
            coding = getattr(sys.stdout, "encoding", None) or "ascii"
            builtins.print(line.translate(_PLAIN).encode(coding, "replace").decode(coding))


def wrap(text: str, indent: str = "  ") -> list[str]:
    """Lines under 100 characters; the later ones are indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=True) or [""]


def short(error: BaseException) -> str:
    """ "TypeError: first line of the message"."""
    first = (str(error).strip().splitlines() or [""])[0]
    name = type(error).__name__
    return f"{name}: {textwrap.shorten(first, 160, placeholder='…')}" if first else name


def what_happened(error: BaseException, own_files: tuple[str, ...] = ()) -> str:
    """One sentence on an exception that left a learner's code; `own_files` are the checks', not the learner's."""
    if isinstance(error, RecursionError):
        said = "your code calls itself without end (RecursionError)"
    elif isinstance(error, SystemExit):
        said = "your code ends the whole program (SystemExit); take the exit out"
    else:
        said = f"your code stopped with {short(error)}"
    return said + where(error, own_files) + "."


def where(error: BaseException, own_files: tuple[str, ...] = ()) -> str:
    """ ", in line 2: `return x @ W`" for the innermost frame in the learner's code; "" where it took no part."""
    frame = learner_frame(error, own_files)
    line = frame.line if frame else ""
    return f", in line {frame.lineno}: `{textwrap.shorten(line, 80, placeholder='…')}`" if line else ""


def learner_frame(error: BaseException, own_files: tuple[str, ...] = ()) -> traceback.FrameSummary | None:
    """The innermost frame that is neither this package's, a check's (`own_files`) nor a library's."""
    skip = (_PACKAGE, *_LIBRARIES, "<frozen", "<@beartype")
    for frame in reversed(traceback.extract_tb(error.__traceback__, limit=-200)):
        if frame.filename not in own_files and not frame.filename.startswith(skip):
            return frame
    return None
