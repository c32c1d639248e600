"""Quiz pages: self-contained, every question in them; their script grades and remembers as the package does."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from quiz_banks import banks

from peft_from_scratch.course.cli import main
from peft_from_scratch.quiz import markup
from peft_from_scratch.quiz.grade import answer, right_answer
from peft_from_scratch.quiz.markup import inline, mathml, rich
from peft_from_scratch.quiz.model import Match, Multi, Numeric, Order, Output, Single
from peft_from_scratch.quiz.read import Unreadable, number, printed
from peft_from_scratch.quiz.web import course_page, quiz_page
from peft_from_scratch.quiz.web.data import quiz_data
from peft_from_scratch.quiz.web.page import HERE


@pytest.fixture(params=banks(), ids=lambda bank: bank.quiz)
def bank(request):
    return request.param


class Page(HTMLParser):
    """Tags that are open, ids, and everything that would be fetched."""

    VOID = ("meta", "link", "input", "br", "hr", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.fetched, self.labels, self.tags = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        self.ids += [named["id"]] if "id" in named else []
        self.labels += [named["for"]] if tag == "label" and "for" in named else []
        self.fetched += [v for n, v in attributes if n in ("src", "href") and not v.startswith(("data:", "#"))]
        self.open += [] if tag in self.VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_quiz_page_is_whole_and_asks_for_nothing(bank):
    text = quiz_page(bank)
    page = Page(text)
    assert page.open == [] and page.fetched == [] and "@import" not in text and "url(" not in text
    assert len(page.ids) == len(set(page.ids)) and set(page.labels) <= set(page.ids)
    assert [f"q-{q.id}" for q in bank.questions] == [name for name in page.ids if name.startswith("q-")]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and set(levels[1:]) == {2}


def test_every_field_has_a_label(bank):
    page = Page(quiz_page(bank))
    fields = [named["id"] for tag, named in page.tags if tag in ("input", "select", "textarea")]
    assert sorted(fields) == sorted(page.labels)


def test_no_latex_and_no_mark_is_left(bank):
    text = re.sub(r"<(script|code|annotation)\b.*?</\1>", "", quiz_page(bank), flags=re.DOTALL)
    assert "$" not in text and "**" not in text and not re.findall(r"\\[a-zA-Z]+", text)


def test_the_page_of_the_course_hides_every_question():
    text = course_page(banks())
    assert Page(text).open == [] and text.count('<form class="question" hidden') == sum(
        len(b.questions) for b in banks()
    )


def test_maths_without_the_library_is_unicode(monkeypatch):
    monkeypatch.setattr(markup, "find_spec", lambda name: None)
    assert mathml(r"\alpha < r") == "<i>α &lt; r</i>"


def test_marks_become_html():
    maths = str.upper
    assert inline("`a < b` **x $y$** & $z$", maths) == "<code>a &lt; b</code> <b>x Y</b> &amp; Z"
    assert rich("one\ntwo\n\n```python\nif a:\n    b\n```\nthree", maths) == (
        "<p>one two</p><pre><code>if a:\n    b</code></pre><p>three</p>"
    )
    assert inline("a ```\nb\n``` c", maths) == 'a <code class="block">b</code> c'


# --- the script, run by node


def node(code, given):
    if shutil.which("node") is None:
        pytest.skip("the page's script is run by node, which is not installed")
    command = ["node", "-e", f"const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));{code}"]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60, cwd=HERE)
    assert done.returncode == 0, done.stderr[-800:]
    return json.loads(done.stdout)


NUMBERS = [
    "73,728", "7e4", "7.4E+4", "7.4 × 10^4", "7.4*10**4", "73 728", "73_728", "73'728", "0,325", "3,3", "2/3", "−5",
    "≈ 0.33", ".5", "5 %", "1,234,567.5", "~ 7", "", " ", "many", "1/0", "1/2/3", "12,34,5", "1e", "0x10", "nan", "inf",
    "5 apples", "--3", "1 2", "5%%", "1e400", "007", "+3", "3.", "1,000,00", "1.5e-3", "%", "/2", "²",
]  # fmt: skip


def test_numbers_are_read_alike():
    def python(text, unit):
        try:
            value = number(text, unit)
        except (Unreadable, OverflowError):
            return None
        return value if abs(value) != float("inf") else None

    cases = [[text, unit] for text in [*NUMBERS, "0.3 bytes", "3 BYTES"] for unit in ("", "%", "bytes")]
    code = (
        "const g = require('./grade.js'); console.log(JSON.stringify(given.map(([text, unit]) => {"
        "try { return g.readNumber(text, unit) } "
        "catch (e) { if (!(e instanceof g.Unreadable)) throw e; return null }})))"
    )
    assert node(code, cases) == [python(*case) for case in cases]


def test_printed_text_is_compared_alike():
    texts = [
        "(6, 4)\nTrue",
        "( 6,4 )\n true ",
        "'a'\n\n`b`",
        '"x"',
        "a  b\t c",
        "{'k' : 1}",
        "a = b",
        "\n\nx\r\ny\n",
        "[1 ,2]",
    ]
    code = "const g = require('./grade.js'); console.log(JSON.stringify(given.map(g.printed)))"
    assert node(code, texts) == [printed(text) for text in texts]


def tries(question):
    """The key, and answers that are wrong in many ways."""
    if isinstance(question, (Single, Multi)):
        count = len(question.choices)
        return [[i] for i in range(count)] + (
            [question.key, list(range(count)), question.key[:-1]] if isinstance(question, Multi) else []
        )
    if isinstance(question, Numeric):
        return [repr(question.answer), repr(question.answer * 1.5 + 1), *(repr(near.value) for near in question.near)]
    if isinstance(question, Output):
        return [*question.accept, "no", *(slip.text for slip in question.near)]
    if isinstance(question, (Order, Match)):
        count = len(question.shown())
        rotated = question.key[1:] + question.key[:1]
        return [question.key, rotated, list(range(count))[: len(question.key)]] + (
            [question.key[:-1], list(range(count))] if isinstance(question, Order) else []
        )
    return [[], [0], list(range(len(question.rubric)))]


GRADE = (
    "const g = require('./grade.js'); console.log(JSON.stringify(given.map(([question, tries]) => tries.map((each) => {"
    "try { return g.grade(question, each) } catch (e) { if (!(e instanceof g.Unreadable)) throw e; return null }}))))"
)


def test_every_question_is_graded_alike(bank):
    known = quiz_data(bank)["questions"]
    asked = [(question, data, tries(question)) for question, data in zip(bank.questions, known, strict=True)]
    for (question, _, given), verdicts in zip(asked, node(GRADE, [[d, t] for _, d, t in asked]), strict=True):
        for each, read in zip(given, verdicts, strict=True):
            try:
                right = answer(question, each)
            except Unreadable:
                right = None
            assert (read is None) == (right is None), (question.id, each)
            if right:
                assert read["correct"] == right.correct and read["score"] == pytest.approx(right.score), (
                    question.id,
                    each,
                )
                assert read["feedback"] or isinstance(question, Output)
    assert any(right_answer(question) for question in bank.questions)


BOXES = """
const { moved, sorted, round, Memory, DAY } = require("./boxes.js");
let entry = {}; const climb = [];
for (let i = 0; i < 6; i++) { entry = moved(entry, true, 0); climb.push([entry.box, entry.due / DAY]); }
const missed = moved(entry, false, 5);
const entries = { a: { box: 2, due: 30 }, b: { box: 1, due: 10 }, c: { box: 3, due: 99 }, d: { tries: 1 } };
const store = { text: null, getItem() { return this.text; }, setItem(key, text) { this.text = text; } };
const first = new Memory(store), second = new Memory(store);
first.set("a", { box: 1 }); second.set("b", { box: 2 }); first.set("c", { box: 3 });
const refusing = { getItem() { throw new Error("no"); }, setItem() { throw new Error("no"); } };
const closed = new Memory(refusing); closed.set("a", { box: 1 });
const broken = new Memory({ getItem: () => "{not json", setItem() {} });
console.log(JSON.stringify({ climb, missed, sorted: sorted(entries, ["a", "b", "c", "d", "e"], 50),
  round: round(entries, ["a", "b", "c", "d", "e"], 50, 3), kept: new Memory(store).entries,
  closed: [closed.kept, closed.get("a")], broken: broken.entries }));
"""


def test_boxes_and_memory():
    found = node(BOXES, None)
    assert found["climb"] == [[2, 1], [3, 3], [4, 7], [5, 21], [5, 21], [5, 21]]
    assert found["missed"] == {"box": 1, "due": 5}
    assert found["sorted"] == {"due": ["b", "a"], "fresh": ["d", "e"], "resting": ["c"]}
    assert found["round"] == ["b", "a", "d"]
    assert found["kept"] == {"a": {"box": 1}, "b": {"box": 2}, "c": {"box": 3}}  # two tabs, nothing lost
    assert found["closed"] == [False, {"box": 1}] and found["broken"] == {}


# --- the command


def test_command_writes_every_format(tmp_path, capsys):
    assert main(["quiz", "00", "04", "--out", str(tmp_path)]) == 0
    suffixes = (".html", ".txt", ".gift.txt", ".qti.zip", ".anki.txt", ".jupyterquiz.json")
    expected = {f"quiz_{name}{suffix}" for name in ("00", "04") for suffix in suffixes} | {"practice.html"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert "File, Import" in capsys.readouterr().out


def test_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["quiz", "77", "--out", str(tmp_path)]) == 1
    assert "There is no quiz '77'" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert main(["quiz", "00", "--out", str(tmp_path / "file"), "--format", "text"]) == 1
    assert (tmp_path / "file").read_text() == "x" and capsys.readouterr().err.strip()
