"""The table of methods is complete, and says what the pages say."""

import re

from contract import load_rows

from peft_from_scratch.__main__ import main
from peft_from_scratch.methods.table import markdown, pages, rows

# Pages whose contract is tested elsewhere: in place, choosing weights for another adapter, training nothing or a gate.
ELSEWHERE = {"Full fine-tuning", "Arrow", "X-LoRA"}


def test_every_page_with_a_card_is_a_row(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    for card, path, _ in pages():
        assert card.name in out and path in out
    assert len({card.name for card, *_ in pages()}) == len(pages()) >= 66


def test_every_counted_formula_is_tested_by_the_contract():
    tested = {row.count for row in load_rows().values()}
    missing = {card.name for card, *_ in pages() if card.count not in tested}
    assert missing <= ELSEWHERE | {
        "Head only",
        "Top-k layers",
        "LT-SFT",
        "FISH mask",
        "Magnitude and gradient masks",
    }, missing


def test_markdown_has_a_line_a_method():
    page = markdown(rows())
    assert len(re.findall(r"^\| .* \| \[", page, re.M)) == len(pages())
