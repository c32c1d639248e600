"""Every question survives the way out: each export is read back by a reader that others wrote."""

import csv
import html
import io
import json
import re
import shutil
import subprocess
import zipfile
from xml.etree import ElementTree

import pytest
from quiz_banks import banks

from peft_from_scratch.course.errors import CourseError
from peft_from_scratch.course.npm import Package, members
from peft_from_scratch.quiz.export import FORMATS
from peft_from_scratch.quiz.export.anki import COLUMNS
from peft_from_scratch.quiz.export.gift import number
from peft_from_scratch.quiz.listing import letter
from peft_from_scratch.quiz.markup import dollars, inline, mathjax, rich
from peft_from_scratch.quiz.model import Match, Multi, Numeric, Order, Output, Self, Single
from peft_from_scratch.quiz.text import to_plain

GIFT = Package(
    "gift-pegjs",
    "1.0.2",
    "sha512-S/A2wBDdia2QWKpB5FtASx1gguep1wg5If5glDWJgUMiABICJT7ogArGfsdgozevhBdbdOiHhrykJP86hbgvRw==",
)
READ_GIFT = "const p = require('./pegjs-gift.js'), fs = require('fs');" + (
    "console.log(JSON.stringify(p.parse(fs.readFileSync(0, 'utf8'))))"
)


@pytest.fixture(params=banks(), ids=lambda bank: bank.quiz)
def bank(request):
    return request.param


# --- GIFT, read by the grammar of the GIFT editors


@pytest.fixture(scope="session")
def read_gift(tmp_path_factory):
    if shutil.which("node") is None:
        pytest.skip("the GIFT parser needs node, which is not installed")
    try:
        files = members(GIFT)
    except CourseError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("gift")
    (folder / "pegjs-gift.js").write_bytes(files["pegjs-gift.js"])

    def read(text):
        command = ["node", "-e", READ_GIFT]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=folder, timeout=60)
        assert done.returncode == 0, done.stderr[-600:]
        return json.loads(done.stdout)

    return read


def text_of(part):
    return part["text"] if isinstance(part, dict) else part


def test_gift_comes_back_question_by_question(bank, read_gift):
    category, *found = read_gift(FORMATS["gift"].make(bank))
    assert category == {"type": "Category", "title": f"$course$/peft_from_scratch/{bank.quiz}"}
    assert [each["id"] for each in found] == [each["title"] for each in found] == [q.id for q in bank.questions]
    for question, each in zip(bank.questions, found, strict=True):
        assert each["tags"] == question.tags
        assert each["stem"]["format"] == "html" and each["stem"]["text"].startswith(rich(question.prompt, mathjax))
        assert rich(question.explanation, mathjax) in text_of(each["globalFeedback"])
        GIFT_CHECKS[type(question)](question, each)


def gift_single(question, each):
    assert each["type"] == "MC"
    for choice, read in zip(question.choices, each["choices"], strict=True):
        assert read["isCorrect"] == choice.correct and text_of(read["text"]) == rich(choice.text, mathjax)
        assert text_of(read["feedback"]) == rich(choice.feedback, mathjax)


def gift_multi(question, each):
    assert each["type"] == "MC"
    share = 100 / len(question.key)
    for choice, read in zip(question.choices, each["choices"], strict=True):
        assert read["weight"] == pytest.approx(share if choice.correct else -share, abs=1e-4)
        assert text_of(read["text"]) == rich(choice.text, mathjax)


def gift_numeric(question, each):
    assert each["type"] == "Numerical"
    right, *near, other = each["choices"]
    assert right["weight"] == 100 and right["text"]["number"] == pytest.approx(question.answer, rel=1e-6)
    assert question.accepts(right["text"]["number"] + 0.999 * right["text"]["range"])
    assert not question.accepts(right["text"]["number"] + 1.001 * right["text"]["range"] + 1e-9 * abs(question.answer))
    assert [n["text"]["number"] for n in near] == [n.value for n in question.near]
    assert [n["weight"] for n in near] == [0] * len(near)
    assert text_of(other["feedback"]) == rich(question.otherwise, mathjax)


def gift_output(question, each):
    assert each["type"] == "Short" and rich(f"```\n{question.code.rstrip()}\n```", mathjax) in each["stem"]["text"]
    typed = {text_of(read["text"]): read["weight"] for read in each["choices"]}
    assert typed.pop("*") == 0
    expected = {text: 100 for text in question.accept} | {slip.text: 0 for slip in question.near}
    assert typed == {" ".join(text.split()).replace("*", r"\*"): weight for text, weight in expected.items()}


def sub_answer(pair):
    """This parser leaves its own stand-ins for escaped marks (&&058; for a colon) in sub-answers."""
    return re.sub(r"&&(\d+);", lambda match: chr(int(match[1])), pair["subanswer"])


def gift_order(question, each):
    assert each["type"] == "Matching"
    pairs = [(text_of(pair["subquestion"]), sub_answer(pair)) for pair in each["matchPairs"]]
    lines = [line.text.replace("->", "→") for line in question.lines + question.distractors]
    assert [answer for _, answer in pairs] == [" ".join(line.split()) for line in lines]  # it drops double spaces
    numbers = [f"{i}." for i in range(1, len(question.lines) + 1)]
    assert [place for place, _ in pairs] == numbers + [""] * len(question.distractors)


def gift_match(question, each):
    assert each["type"] == "Matching"
    assert len(each["matchPairs"]) == len(question.pairs) + len(question.extra)
    assert [bool(text_of(pair["subquestion"])) for pair in each["matchPairs"]] == [True] * len(question.pairs) + [
        False
    ] * len(question.extra)
    texts = [pair.right for pair in question.pairs] + [line.text for line in question.extra]
    assert [sub_answer(pair) for pair in each["matchPairs"]] == [" ".join(to_plain(text).split()) for text in texts]


def gift_self(question, each):
    assert each["type"] == "Essay"
    assert all(inline(point, mathjax) in text_of(each["globalFeedback"]) for point in question.rubric)


GIFT_CHECKS = {
    Single: gift_single, Multi: gift_multi, Numeric: gift_numeric, Output: gift_output, Order: gift_order,
    Match: gift_match, Self: gift_self,
}  # fmt: skip


def test_no_blank_line_stands_inside_a_gift_question(bank):
    blocks = [block for block in re.split(r"\n\s*\n", FORMATS["gift"].make(bank).strip()) if "::" in block]
    assert len(blocks) == len(bank.questions)
    assert all(block.count("\n::") == 1 and block.endswith("}") for block in blocks)


def test_an_indent_is_kept_in_a_menu_of_answers():
    assert "=2. -> " + 4 * "\u00a0" + "x \\= i  \\# \\~" in FORMATS["gift"].make(banks()[0])


def test_numbers_have_plain_decimals():
    assert [number(value) for value in (1e-5, -2.5e-4, 73728.0, 0.0)] == ["0.00001", "-0.00025", "73728", "0"]


# --- QTI


def items(package):
    names = [name for name in package.namelist() if name.startswith("items/")]
    return {name: ElementTree.fromstring(package.read(name)) for name in names}


def test_qti_package_is_whole(bank, tmp_path):
    integrity = pytest.importorskip(
        "qti_package_maker.common.package_integrity", reason="qti-package-maker is not there"
    )
    path = tmp_path / "bank.zip"
    path.write_bytes(FORMATS["qti"].make(bank))
    assert integrity.check_package(str(path)) == []


QTI = "{http://www.imsglobal.org/xsd/imsqti_v2p1}"
INTERACTION = {
    Single: "choiceInteraction", Multi: "choiceInteraction", Numeric: "textEntryInteraction", Order: "orderInteraction",
    Match: "matchInteraction", Self: "extendedTextInteraction",
}  # fmt: skip


def test_qti_items_hold_every_question_and_its_key(bank):
    package = zipfile.ZipFile(io.BytesIO(FORMATS["qti"].make(bank)))
    found = items(package)
    assert list(found) == [f"items/{question.id}.xml" for question in bank.questions]
    for question, root in zip(bank.questions, found.values(), strict=True):
        right = [value.text for value in root.findall(f"{QTI}responseDeclaration/{QTI}correctResponse/{QTI}value")]
        assert right == qti_key(question)
        body = root.find(f"{QTI}itemBody")
        lines = len(question.accept[0].splitlines()) if isinstance(question, Output) else 0
        kind = INTERACTION.get(type(question), "textEntryInteraction" if lines == 1 else "extendedTextInteraction")
        assert len(list(body.iter(QTI + kind))) == 1
        declared = {each.get("identifier") for each in body.iter() if each.tag.endswith("hoice")}
        assert declared >= {part for value in right for part in value.split()} or not declared
        shown = "".join(body.itertext())
        assert question.prompt.count("$") or words(rich(question.prompt, dollars)) in words(
            html.escape(shown, quote=False)
        )


def words(page):
    return "".join(re.sub(r"<[^>]*>", "", page).split())


def qti_key(question):
    if isinstance(question, (Single, Multi)):
        return [f"c{i}" for i in question.key]
    if isinstance(question, Numeric):
        return [repr(question.answer)]
    if isinstance(question, Output):
        return [question.accept[0]]
    if isinstance(question, Order):
        return [f"l{i}" for i in question.key]
    return [f"a{i} b{place}" for i, place in enumerate(question.key)] if isinstance(question, Match) else []


def test_the_same_bank_gives_the_same_bytes(bank):
    assert all(each.make(bank) == each.make(bank) for each in FORMATS.values())


# --- Anki, read by Anki


def test_anki_takes_every_card_once(bank, tmp_path):
    anki = pytest.importorskip("anki.collection", reason="anki is not installed")
    path = tmp_path / "bank.txt"
    path.write_text(FORMATS["anki"].make(bank), encoding="utf-8")
    collection = anki.Collection(str(tmp_path / "collection.anki2"))
    try:
        for _ in range(2):  # a second import updates the cards, it does not double them
            meta = collection.get_csv_metadata(path=str(path), delimiter=None)
            collection.import_csv(anki.ImportCsvRequest(path=str(path), metadata=meta))
        notes = {note.guid: note for note in map(collection.get_note, collection.find_notes(""))}
        assert collection.note_count() == len(bank.questions) and set(notes) == {q.id for q in bank.questions}
        for question in bank.questions:
            front, back = notes[question.id].fields
            assert rich(question.prompt, mathjax) in front and back.endswith(rich(question.explanation, mathjax))
            assert sorted(notes[question.id].tags) == sorted(["peft", *question.tags])
        decks = [deck.name for deck in collection.decks.all_names_and_ids()]
        assert any(name.startswith(f"PEFT from scratch::{bank.quiz} ") for name in decks)
    finally:
        collection.close()


def test_anki_file_has_its_columns(bank):
    lines = [line for line in io.StringIO(FORMATS["anki"].make(bank), newline="") if not line.startswith("#")]
    rows = list(csv.reader(lines, dialect="excel-tab"))
    assert [row[0] for row in rows] == [question.id for question in bank.questions]
    assert {len(row) for row in rows} == {len(COLUMNS)}


# --- jupyterquiz


def test_jupyterquiz_holds_every_question(bank):
    made = json.loads(FORMATS["jupyterquiz"].make(bank))
    assert len(made) == len(bank.questions)
    for question, each in zip(bank.questions, made, strict=True):
        assert each["type"] in ("multiple_choice", "many_choice", "numeric", "string")
        right = [answer for answer in each["answers"] if answer.get("correct")]
        assert right and all(answer["feedback"] for answer in each["answers"])
        if isinstance(question, (Single, Multi)):
            assert [answer["correct"] for answer in each["answers"]] == [choice.correct for choice in question.choices]
        if isinstance(question, Numeric):
            low, high = right[0].get("range", [question.answer] * 2)  # low <= value < high is right there
            inside, outside = (low + high) / 2 + 0.499 * (high - low), (low + high) / 2 + 0.501 * (high - low)
            outside += 1e-9 * abs(outside)
            assert question.accepts(inside) and not question.accepts(outside)
            assert right[0].get("value", question.answer) == question.answer
        if isinstance(question, Match):
            assert right[0]["answer"] == " ".join(f"{i}{letter(place)}" for i, place in enumerate(question.key, 1))


def test_jupyterquiz_shows_it(bank, tmp_path, monkeypatch):
    jupyterquiz = pytest.importorskip("jupyterquiz", reason="jupyterquiz is not installed")
    seen = []
    monkeypatch.setattr("jupyterquiz.dynamic.display.display", lambda *shown: seen.extend(shown))
    path = tmp_path / "bank.json"
    path.write_text(FORMATS["jupyterquiz"].make(bank), encoding="utf-8")
    jupyterquiz.display_quiz(str(path))
    shown = "".join(str(getattr(each, "data", each)) for each in seen)
    assert "show_questions" in shown and json.loads(path.read_text(encoding="utf-8"))[0]["type"] in shown
