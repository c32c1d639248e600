"""What can be looked at once the libraries are there, and what will run in which mode."""

from ...check.lookup import lessons
from ..budget import budget
from ..machine import run_times
from .finding import Finding
from .machine import device, folders, models, ram
from .software import jupyter, sandbox, widgets


def examine(hashes: bool = True) -> list[Finding]:
    """All findings, in the order in which one would repair them."""
    found = [device(), ram(), *folders()]
    found += models() if hashes else []
    return [*found, jupyter(), widgets(), sandbox()]


def plan() -> list[str]:
    """What runs in which mode, and how long it took where it was measured."""
    try:
        lines = ["", f"Mode: {budget()}"]
    except (ValueError, RuntimeError) as error:
        return ["", f"✗ mode: {error}"]
    for one in lessons().values():
        took = ", ".join(f"{mode} {seconds / 60:.1f} minutes" for mode, seconds in run_times(one).items())
        lines.append(
            f"  {one.id} {one.title:<28} {one.minutes:>4} minutes" + (f", of which its runs: {took}" if took else "")
        )
    return lines
