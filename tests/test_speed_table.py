"""results/speed.json has a line for every method that peft has too, and no page's step is clearly slower than peft's.

The times themselves are measured by `python tests/speed.py`, not here.
"""

import json
from pathlib import Path

import pytest
from peft_twin import peft
from speed_methods import METHODS, NOT_TIMED

from peft_from_scratch.methods.table import pages

ROOT = Path(__file__).parent.parent / "results"
SPEED = json.loads((ROOT / "speed.json").read_text(encoding="utf-8"))
ORACLES = json.loads((ROOT / "oracles.json").read_text(encoding="utf-8"))


def test_every_method_that_is_held_equal_to_peft_is_timed_or_says_why_not():
    held = {name for name, found in ORACLES.items() if found.get("oracle") == f"peft {peft.__version__}"}
    named = {card.name for card, *_ in pages() if card.peft}
    assert not METHODS.keys() & NOT_TIMED.keys()
    assert (held | named) - METHODS.keys() - NOT_TIMED.keys() == set()
    assert all(NOT_TIMED.values())


def test_what_is_timed_is_a_method_or_a_variant_of_one():
    names = {card.name for card, *_ in pages()}
    assert {n for n in (*METHODS, *NOT_TIMED) if n not in names and n.rsplit(", ", 1)[0] not in names} == set()


def test_every_timed_method_has_a_line_measured_with_this_peft():
    assert SPEED["ratio"].keys() == METHODS.keys()
    assert SPEED["peft"] == peft.__version__


def test_both_sides_had_the_same_settings():
    """They train as many numbers; peft's BOFT twice as many for the same rotations (rotation/boft.py)."""
    counts = {name: (line["trains"], line["trains_peft"]) for name, line in SPEED["ratio"].items()}
    assert {name for name, (mine, theirs) in counts.items() if mine != theirs} == {"BOFT"}


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_not_slower_than_pefts(name):
    line = SPEED["ratio"][name]
    assert 0 < line["low"] <= line["median"] <= line["high"] and line["rounds"] >= 6
    assert line["low"] < 1.05, line
