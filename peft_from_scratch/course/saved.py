"""Runs that were measured once and are read in a lesson: results/lessons/NAME.json."""

import json
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def measured_runs(lesson: str) -> dict[str, dict]:
    """What the solved runs of lesson "04" took: {mode: {seconds, slowest_cell, peak_mb, machine}}; {} if unmeasured."""
    return next((modes for name, modes in saved("notebooks").items() if name[:2] == lesson), {})


def saved(name: str) -> dict:
    """A saved run with its provenance: `saved("02_museum")`. FileNotFoundError says which there are."""
    places = [PACKAGE / "_results", PACKAGE.parent / "results" / "lessons"]  # installed, clone
    for place in places:
        if (path := place / f"{name}.json").is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    known = sorted(path.stem for place in places for path in place.glob("*.json"))
    raise FileNotFoundError(f"There is no saved run {name!r}. There are: {', '.join(known) or 'none'}.")
