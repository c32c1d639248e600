"""The table of methods is complete, and says what the pages say."""

import re
from pathlib import Path

from contract import load_rows

from peft_from_scratch.__main__ import main
from peft_from_scratch.methods.table import markdown, pages, rows

# Pages whose contract is tested elsewhere: in place, choosing weights for another adapter, training nothing or a gate.
ELSEWHERE = {"Full fine-tuning", "Arrow", "X-LoRA", "Ladder side tuning", "Shadow"}


def test_every_page_with_a_card_is_a_row(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    for card, path, _ in pages():
        assert card.name in out and path in out
    assert len({card.name for card, *_ in pages()}) == len(pages()) >= 80


def test_every_counted_formula_is_tested_by_the_contract():
    """But for what has no layer of its own: prompts, side networks, masks, optimisers, combinations."""
    tested = {row.count for row in load_rows().values()}
    missing = {card for card, path, _ in pages() if card.count not in tested}
    layers = {card.name for card in missing if card.category in ("reparametrized", "additive: other", "hybrid")}
    assert layers <= ELSEWHERE, layers


def test_markdown_has_a_line_a_method():
    page = markdown(rows())
    assert len(re.findall(r"^\| .* \| \[", page, re.M)) == len(pages())


def test_the_committed_page_is_the_one_that_the_command_makes():
    page = (Path(__file__).parent.parent / "methods.md").read_text(encoding="utf-8")
    assert page.rstrip() == markdown(rows()), "run: python -m peft_from_scratch methods --markdown > methods.md"
