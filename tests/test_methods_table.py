"""The table of methods is complete, and says what the pages say."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from contract import load_rows

from peft_from_scratch.__main__ import main
from peft_from_scratch.methods.table import markdown, pages, rows

ROOT = Path(__file__).parent.parent
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


# The switches of peft 0.21.2's LoRA, and the rows that are about them.
SWITCHES = {
    "init_lora_weights=True": "LoRA",
    "init_lora_weights=False": "LoRA",  # a start for testing, not a method: its files are read like any other
    "init_lora_weights='gaussian'": "LoRA, Gaussian start",
    "use_rslora": "rsLoRA",
    "init_lora_weights='pissa'": "PiSSA",
    "init_lora_weights='olora'": "OLoRA",
    "init_lora_weights='orthogonal'": "LoRA, orthogonal start",
    "init_lora_weights='mica'": "MiCA",
    "init_lora_weights='corda'": "CorDA",
    "init_lora_weights='eva'": "EVA",
    "init_lora_weights='loftq'": "LoftQ",
    "init_lora_weights='lora_ga'": "LoRA-GA",
    "use_dora": "DoRA",
    "alora_invocation_tokens": "aLoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "BD-LoRA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "kasa_config": "KaSA",
    "arrow_config": "Arrow",
    "lora_bias": "LoRA with a bias",
    "bias='all'": "BitFit",
    "rank_pattern": "Ranks by pattern",
}

# The well-known methods that peft 0.21.2 has not, or not under a name of their own.
OUTSIDE = {
    "Houlsby adapters": {"Houlsby adapters"},
    "Pfeiffer adapters": {"Pfeiffer adapters"},
    "Parallel adapters": {"Parallel adapters", "Scaled parallel adapters"},
    "Compacter": {"Compacter", "Compacter++"},
    "AdapterFusion": {"AdapterFusion"},
    "AdapterDrop": {"AdapterDrop"},
    "Invertible adapters (MAD-X)": {"Invertible adapters"},
    "MAM adapter": {"MAM adapter"},
    "UniPELT": {"UniPELT"},
    "S4": {"S4"},
    "ReFT": {"LoReFT", "NoReFT", "DiReFT"},
    "BitFit": {"BitFit"},
    "Layer freezing, top-k layers, head only": {"Top-k layers", "Head only"},
    "FISH mask": {"FISH mask"},
    "Diff pruning": {"Diff pruning"},
    "LT-SFT": {"LT-SFT"},
    "Magnitude and gradient masks": {"Magnitude and gradient masks"},
    "Intrinsic dimension": {"SAID"},
    "KronA": {"KronA"},
    "LoRA-XS": {"LoRA-XS"},
    "Side-tuning": {"Side-tuning"},
    "Ladder side tuning": {"Ladder side tuning"},
    "GaLore": {"GaLore"},
    "APOLLO": {"APOLLO"},
    "LISA": {"LISA"},
    "BAdam": {"BAdam"},
    "LOMO": {"LOMO", "AdaLomo"},
    "NF4 and QLoRA": {"NF4 with double quantisation", "QLoRA"},
    "Paged optimisers": {"Paged optimizer states"},
    "Merging": {"Task arithmetic", "TIES", "DARE", "Magnitude prune"},
    "Soups": {"LoRA soup", "WiSE-FT", "Model soup"},
    "MTL-LoRA": {"MTL-LoRA"},
}


def words_of_peft():
    return {card.name: card.peft for card, *_ in pages()}


def test_every_peft_type_of_the_installed_version_has_a_row():
    """And no row names a type that is not there."""
    peft = pytest.importorskip("peft")
    types, named = {t.value for t in peft.PeftType}, set(words_of_peft().values())
    assert types <= named, f"peft {peft.__version__} has types without a page: {sorted(types - named)}"
    assert {word for word in named if word.isupper()} == types


def test_every_switch_of_lora_has_a_row():
    """That says the switch; LoRA's own row says LORA."""
    named = words_of_peft()
    assert len(SWITCHES) == 23 and set(SWITCHES.values()) <= named.keys()
    assert {s for s, name in SWITCHES.items() if named[name] != s} == {
        "init_lora_weights=True", "init_lora_weights=False"
    }  # fmt: skip


def test_every_switch_that_a_row_names_is_one_of_peft_s():
    """A field of LoraConfig, with a value that it takes, or a function of peft."""
    peft = pytest.importorskip("peft")
    fields = {f.name for f in dataclasses.fields(peft.LoraConfig)}
    functions = {"create_lorafa_optimizer", "create_loraplus_optimizer", "create_riemannian_optimizer"}
    functions |= {"reduce_intruder_dimension", "add_weighted_adapter", "convert_to_lora"}
    for word in {word for word in words_of_peft().values() if word and not word.isupper()}:
        assert re.split(r"[=(]", word)[0] in fields | functions, word


def test_every_method_outside_peft_has_its_rows():
    assert len(OUTSIDE) == 32
    assert set().union(*OUTSIDE.values()) <= words_of_peft().keys()


def test_every_row_has_an_oracle_or_two_properties():
    """The properties are tests, named by file and function."""
    recorded = json.loads((ROOT / "results" / "oracles.json").read_text())
    for card, _, _ in pages():
        seen = recorded[card.name]
        assert "oracle" in seen or len(seen["properties"]) == 2, card.name
        for test in seen.get("properties", []):
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test


def test_markdown_has_a_line_a_method():
    page = markdown(rows())
    assert len(re.findall(r"^\| .* \| \[", page, re.M)) == len(pages())


def test_the_committed_page_is_the_one_that_the_command_makes():
    page = (ROOT / "methods.md").read_text(encoding="utf-8")
    assert page.rstrip() == markdown(rows()), "run: python -m peft_from_scratch methods --markdown > methods.md"
