"""The quiz engine, and every bank in quizzes/: keys worked out, code run, feedback for every answer."""

import argparse
import copy
import io
import json
import subprocess
import sys

import pytest
import yaml

from peft_from_scratch.course.progress import read_events
from peft_from_scratch.quiz import load, show, terminal
from peft_from_scratch.quiz.ask import play
from peft_from_scratch.quiz.grade import answer, right_answer
from peft_from_scratch.quiz.listing import listing, render_text
from peft_from_scratch.quiz.load import QuizError, folder, load_quiz, quiz_names, schema
from peft_from_scratch.quiz.model import Match, Multi, Numeric, Order, Quiz, Self, Single
from peft_from_scratch.quiz.read import Unreadable, number, positions
from peft_from_scratch.quiz.session import Session
from peft_from_scratch.quiz.text import plain_maths, to_html, to_plain
from peft_from_scratch.quiz.verify import equals, faults

COMMON = {"prompt": "p", "hint": "h", "explanation": "e", "tags": ["t"]}
SINGLE = COMMON | {
    "id": "99-s", "type": "single",
    "choices": [{"text": "yes", "feedback": "f1", "correct": True, "verify": "1 + 1 == 2"},
                {"text": "no", "feedback": "f2", "verify": "1 + 1 == 3"}],
}  # fmt: skip
MULTI = COMMON | {
    "id": "99-m", "type": "multi",
    "choices": [{"text": "a", "feedback": "fa", "correct": True}, {"text": "b", "feedback": "fb"},
                {"text": "c", "feedback": "fc", "correct": True}, {"text": "d", "feedback": "fd"}],
}  # fmt: skip
NUMERIC = COMMON | {
    "id": "99-n", "type": "numeric", "answer": 73728, "verify": "12 * 8 * 768", "otherwise": "o",
    "near": [{"value": 36864, "feedback": "half", "verify": "12 * 8 * 384"}],
}  # fmt: skip
OUTPUT = COMMON | {
    "id": "99-o", "type": "output", "code": "print((6, 4))\nprint(True)\n", "accept": ["(6, 4)\nTrue"],
    "near": [{"text": "(4, 6)\nTrue", "feedback": "turned"}], "otherwise": "o",
}  # fmt: skip
ORDER = COMMON | {
    "id": "99-p", "type": "order", "code": True, "verify": "c == 3",
    "lines": [{"text": "a = 1", "feedback": "l1"}, {"text": "b = a + 1", "feedback": "l2"},
              {"text": "c = b + 1", "feedback": "l3"}],
    "distractors": [{"text": "c = 0", "feedback": "stranger"}],
}  # fmt: skip
MATCH = COMMON | {
    "id": "99-q", "type": "match",
    "pairs": [{"left": "two", "right": "2", "feedback": "p1", "verify": "1 + 1"},
              {"left": "three", "right": "3", "feedback": "p2", "verify": "1 + 2"}],
    "extra": [{"text": "4", "feedback": "too much"}],
}  # fmt: skip
OPEN = COMMON | {"id": "99-r", "type": "self", "model_answer": "m", "rubric": ["x", "y"]}
BANK = {
    "schema": 1, "quiz": "99", "title": "Made up", "pass_mark": 0.8,
    "questions": [SINGLE, MULTI, NUMERIC, OUTPUT, ORDER, MATCH, OPEN],
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_PROGRESS", str(tmp_path / "progress.jsonl"))


@pytest.fixture
def bank():
    return Quiz.model_validate(BANK)


def one(question):
    """The question of a bank that holds only this one."""
    return Quiz.model_validate(BANK | {"questions": [question]}).questions[0]


def written(tmp_path, data, name="99_made_up.yaml"):
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


# --- every bank that ships


@pytest.fixture(params=quiz_names())
def shipped(request):
    return load_quiz(request.param)


def test_every_key_follows_from_the_package(shipped):
    assert faults(shipped) == []


def test_a_bank_is_whole(shipped):
    assert len(shipped.questions) >= 10
    assert len({q.type for q in shipped.questions}) >= 5
    predicted = [q for q in shipped.questions if q.prompt.startswith("**Predict")]
    assert len(predicted) >= len(shipped.questions) / 3
    positions_of_keys = [q.key[0] for q in shipped.questions if isinstance(q, Single)]
    assert len(positions_of_keys) < 3 or len(set(positions_of_keys)) > 1, "the right letter is always the same"


def test_every_text_renders_plain(shipped):
    texts = [render_text(shipped)]
    for q in shipped.questions:
        texts += [to_plain(text) for text in strings(q.model_dump(exclude={"code", "verify", "lines", "distractors"}))]
    assert not [text for text in texts if "\\" in text or "$" in text or "**" in text]


def strings(data):
    """All texts inside `data`, but for the expressions."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from strings(value) if name != "verify" else ()
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def test_the_key_of_every_question_is_graded_right(shipped):
    for q in shipped.questions:
        key = q.key if isinstance(q, (Single, Multi, Order, Match)) else right_answer(q)
        given = list(range(len(q.rubric))) if isinstance(q, Self) else key
        verdict = answer(q, given)
        assert verdict.correct and verdict.score == 1.0 and verdict.feedback, q.id


def test_near_misses_say_their_own_sentence(shipped):
    for q in shipped.questions:
        for near in getattr(q, "near", []):
            given = near.value if isinstance(q, Numeric) else near.text
            assert answer(q, given).feedback.startswith(near.feedback[:20]), (q.id, given)


def test_schema_file_is_current():
    assert json.loads((folder() / "schema.json").read_text(encoding="utf-8")) == json.loads(schema())


# --- a wrong key fails


PERTURBED = [
    (SINGLE, lambda q: [c.update(correct=not c.get("correct", False)) for c in q["choices"]]),
    (NUMERIC, lambda q: q.update(answer=73729)),
    (NUMERIC, lambda q: q["near"][0].update(value=36865)),
    (NUMERIC, lambda q: q.update(verify="no_such_name")),
    (OUTPUT, lambda q: q.update(accept=["(6, 4)\nFalse"])),
    (OUTPUT, lambda q: q.update(code="raise ValueError('x')")),
    (ORDER, lambda q: q["lines"].reverse()),
    (ORDER, lambda q: q.update(verify="c == 4")),
    (MATCH, lambda q: [pair.update(right={"2": "3", "3": "2"}[pair["right"]]) for pair in q["pairs"]]),
]


@pytest.mark.parametrize(("question", "perturb"), PERTURBED)
def test_a_wrong_key_is_a_fault(bank, question, perturb):
    assert faults(bank) == []
    wrong = copy.deepcopy(question)
    perturb(wrong)
    found = faults(Quiz.model_validate(BANK | {"questions": [wrong]}))
    assert found and found[0].startswith(question["id"])


def test_every_numeric_key_of_lesson_00_can_fail():
    quiz = load_quiz("00")
    for q in quiz.questions:
        if isinstance(q, Numeric):
            text = repr(q.answer).rstrip("0").rstrip(".")
            last = len(text.partition(".")[2])
            wrong = q.model_copy(update={"answer": q.answer + 10.0**-last})  # the last digit, by one
            assert faults(quiz.model_copy(update={"questions": [wrong]})), q.id


def test_lines_that_can_change_places_are_a_fault():
    loose = ORDER | {"lines": [ORDER["lines"][0], {"text": "d = 5", "feedback": "x"}, *ORDER["lines"][1:]]}
    assert "can change places" in " ".join(faults(Quiz.model_validate(BANK | {"questions": [loose]})))


def test_equals_rounds_to_the_decimals_of_the_key():
    assert equals(0.325, 0.32460) and not equals(0.326, 0.32460)
    assert equals(73728.0, 73728) and not equals(73728.0, 73728.4)


# --- grading


@pytest.mark.parametrize(
    ("text", "value"),
    [("73,728", 73728), ("7e4", 7e4), ("7.4E+4", 7.4e4), ("7.4 × 10^4", 7.4e4), ("7.4*10**4", 7.4e4),
     ("73 728", 73728), ("73_728", 73728), ("0,325", 0.325),
     ("3,3", 3.3), ("2/3", 2 / 3), ("−5", -5), ("≈ 0.33", 0.33), (".5", 0.5), ("5 %", 0.05), ("1,234,567.5", 1234567.5),
     ("~ 7", 7), (4, 4), (2.5, 2.5)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text, value):
    assert number(text) == pytest.approx(value)


def test_units():
    assert number("0.3 %", "%") == number("0.3", "%") == 0.3
    assert number("297,992 bytes", "bytes") == 297992


@pytest.mark.parametrize(
    "text", ["", "  ", "many", "1/0", "1/2/3", "12,34,5", "1e", "0x10", "nan", "inf", "5 apples", "--3"]
)
def test_what_is_not_a_number_is_said(text):
    with pytest.raises(Unreadable, match="number|written"):
        number(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b", [1]),
        ("(B)", [1]),
        ("2", [1]),
        ("a c", [0, 2]),
        ("(a) and (c)", [0, 2]),
        ("ac", [0, 2]),
        ("1, 3", [0, 2]),
        ("312", [2, 0, 1]),
        ([2, 0], [2, 0]),
    ],
)
def test_positions(text, found):
    assert positions(text, 4) == found


@pytest.mark.parametrize("text", ["", "e", "9", "0", "?!", "12345678901", "ab c", "yes please", "1 200", [7], [-1]])
def test_positions_outside_are_said(text):
    with pytest.raises(Unreadable):
        positions(text, 4)


def test_single():
    q = one(SINGLE)
    assert answer(q, "a").correct and answer(q, 0).correct
    assert answer(q, "b").feedback == "f2" and answer(q, "2").score == 0
    with pytest.raises(Unreadable, match="one"):
        answer(q, "a b")


def test_multi_scores_in_part():
    q = one(MULTI)
    assert answer(q, "a c").score == 1 and answer(q, "c a").correct
    half = answer(q, "a")
    assert half.score == 0.5 and not half.correct and "1 more is right" in half.feedback
    assert answer(q, "a b").score == 0 and "(b) fb" in answer(q, "a b").feedback
    assert answer(q, "abcd").score == 0


def test_numeric():
    q = one(NUMERIC)
    assert answer(q, "73,728").correct and answer(q, 73728).correct and not answer(q, "73,729").correct
    assert answer(q, "36864").feedback == "half"
    assert answer(q, "5").feedback == "o"
    assert "Read as 3333" in answer(q, "3,333").feedback
    loose = one(NUMERIC | {"tolerance": {"rel": 0.01}})
    assert answer(loose, "7.4e4").correct and not answer(loose, "7.5e4").correct


def test_output_forgives_spaces_quotes_and_case():
    q = one(OUTPUT)
    assert answer(q, "(6,4)\n true").correct and answer(q, "'(6, 4)'\nTrue  ").correct
    assert answer(q, "(4, 6)\nTrue").feedback == "turned"
    assert not answer(q, "(6, 4)").correct


def test_order():
    q = one(ORDER)
    key = right_answer(q)
    assert all(answer(q, key.replace(" ", gap)).correct for gap in (" ", "", ", "))
    stranger = next(i for i, line in enumerate(q.shown()) if line.feedback == "stranger")
    assert "stranger" in answer(q, [stranger, *q.key[1:]]).feedback
    assert "3 lines are needed" in answer(q, q.key[:2]).feedback
    assert "place is number 2" in answer(q, [q.key[0], q.key[2], q.key[1]]).feedback
    with pytest.raises(Unreadable, match="twice"):
        answer(q, [q.key[0], q.key[0], q.key[1]])


def test_match():
    q = one(MATCH)
    assert answer(q, right_answer(q)).correct and answer(q, q.key).correct
    letters = [chr(ord("a") + i) for i in q.key]
    assert answer(q, " ".join(letters)).correct and answer(q, "".join(letters)).correct
    assert answer(q, f"2{letters[1]}1{letters[0]}").correct and answer(q, f"1-{letters[0]}, 2-{letters[1]}").correct
    extra = q.shown().index("4")
    wrong = answer(q, [extra, q.key[1]])
    assert wrong.score == 0.5 and "too much" in wrong.feedback and "two" in wrong.feedback
    for text in ("1a", "a", "3a 1b", ""):
        with pytest.raises(Unreadable):
            answer(q, text)


def test_self_is_marked_by_its_rubric():
    q = one(OPEN)
    assert answer(q, "a b").score == 1 and answer(q, "a").score == 0.5 and answer(q, "0").score == 0


def test_order_shown_is_shuffled_and_always_the_same(bank):
    q = bank.questions[4]
    assert [line.text for line in q.shown()] == [line.text for line in one(ORDER).shown()]
    assert q.shown() != q.lines + q.distractors


# --- malformed files


def broken(**change):
    return BANK | {"questions": [SINGLE | change]}


MALFORMED = [
    (broken(type="sngle"), r"99-s.*sngle.*expected tags"),
    (broken(hnt="x"), r"question 99-s: hnt: .*unknown field"),
    (broken(choices=[SINGLE["choices"][1]] * 2), r"99-s: .*choices must differ"),
    (broken(choices=[SINGLE["choices"][1], MULTI["choices"][1]]), r"exactly one correct choice, this has 0"),
    (broken(choices=[{"text": "a"}, SINGLE["choices"][0]]), r"99-s: choices.0.feedback: Field required"),
    (broken(prompt=3), r"99-s: prompt: .*found 3: put it in quotes"),
    (broken(id="98-s"), r"start with '99-'"),
    (broken(id="99 S"), r"id: "),
    (BANK | {"questions": [SINGLE, SINGLE]}, r"question ids must differ; found twice: 99-s"),
    (BANK | {"questions": []}, r"questions: "),
    (BANK | {"quiz": 99}, r"quiz: .*put it in quotes"),
    (BANK | {"schema": 2}, r"schema: "),
    (BANK | {"questions": [{k: v for k, v in NUMERIC.items() if k != "verify"}]}, r"99-n: verify: Field required"),
    (BANK | {"questions": [NUMERIC | {"tolerance": {"rel": 0.9}}]}, r"99-n: the near miss 36864 lies within"),
    (BANK | {"questions": [{k: v for k, v in ORDER.items() if k != "verify"}]}, r"99-p: .*needs `verify`"),
    (BANK | {"questions": ["text"]}, r"question number 1"),
    ([1, 2], r"malformed"),
    ("", r"malformed"),
    ("a: [", r"not valid YAML"),
    ("a: 1\na: 2\n", r"'a' stands twice"),
]


@pytest.mark.parametrize(("data", "says"), MALFORMED)
def test_a_malformed_file_says_what_is_wrong_and_where(tmp_path, data, says):
    with pytest.raises(QuizError, match=says) as error:
        load_quiz(written(tmp_path, data))
    assert "99_made_up.yaml" in str(error.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "99_x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(QuizError, match="99_x.yaml cannot be read"):
        load_quiz(path)


def test_unknown_names():
    with pytest.raises(QuizError, match="Did you mean 'start_here'.*There are: 00_start_here"):
        load_quiz("strat_here")
    with pytest.raises(QuizError, match="no quiz file"):
        load_quiz("nowhere.yaml")
    path = str(folder() / "00_start_here.yaml")
    assert load_quiz("00") == load_quiz("start_here") == load_quiz("00_start_here") == load_quiz(path)


def test_banks_are_found_in_a_clone_and_in_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "site" / "peft_from_scratch"
    package.mkdir(parents=True)
    monkeypatch.setattr(load, "PACKAGE", package)
    with pytest.raises(QuizError) as error:
        folder()
    assert str(package / "_quizzes") in str(error.value) and str(tmp_path / "site" / "quizzes") in str(error.value)
    (tmp_path / "site" / "quizzes").mkdir()
    assert folder() == tmp_path / "site" / "quizzes"
    (package / "_quizzes").mkdir()
    assert folder() == package / "_quizzes"


# --- text


def test_maths_in_plain_text():
    assert plain_maths(r"\frac{\alpha}{r} B A x") == "α/r B A x"
    assert plain_maths(r"\frac{d_{in} \cdot d_{out}}{d_{in} + d_{out}}") == "(d_in · d_out)/(d_in + d_out)"
    assert plain_maths(r"x^2 A^T \sqrt{r}") == "x² Aᵀ √r"
    assert to_plain("**Bold** `c < d` and $\\alpha$") == "Bold c < d and α"


def test_html_is_escaped_and_keeps_maths():
    made = to_html("`a < b` & **x** $r < d$\n\n```python\nif a < b:\n    pass\n```")
    assert "a &lt; b</code>" in made and "&amp;" in made and "$r &lt; d$" in made
    assert "<pre" in made and "    pass" in made and "<script" not in to_html("<script>")


def test_no_renderer_sets_a_text_or_background_colour(bank):
    from peft_from_scratch.quiz.widget import QuizView

    texts = [to_html(q.prompt) for q in bank.questions]
    texts += [w.value for w in walk(QuizView(bank).box) if type(w).__name__ == "HTMLMath"]
    assert not [text for text in texts if "background" in text or " color:" in text or '"color:' in text]


def test_text_shows_no_answer(bank):
    text = render_text(bank)
    assert "verify" not in text and "correct" not in text and "python -m peft_from_scratch quiz 99" in text
    for feedback in ("f1", "fa", "stranger", "half"):
        assert feedback not in text.split()
    assert "1 of these does not belong" in listing(bank.questions[4])


# --- a sitting


def test_tries_hints_first_score_and_events(bank):
    session, q = Session(bank), bank.questions[0]
    with pytest.raises(Unreadable):
        session.submit(q, "")
    assert session.sittings[q.id].tries == 0
    session.submit(q, "b")
    assert not session.hint_due(q)
    session.submit(q, "b")
    assert session.hint_due(q) and not session.answer_due(q)
    session.submit(q, "a")
    assert session.sittings[q.id].solved and session.sittings[q.id].first == 0 and not session.hint_due(q)
    session.submit(q, "b")  # after it is over nothing counts
    events = [event for event in read_events() if event["kind"] == "quiz"]
    assert [(e["question"], e["attempt"], e["score"], e["correct"]) for e in events] == [
        ("99-s", 1, 0.0, False), ("99-s", 2, 0.0, False), ("99-s", 3, 1.0, True)
    ]  # fmt: skip
    assert session.score_line() == "Solved 1 of 6, 0 at the first try." and session.to_review() == ["p"]


def test_a_shown_answer_does_not_count_as_solved(bank):
    session, q = Session(bank), bank.questions[2]
    for _ in range(3):
        session.submit(q, "1")
    assert session.answer_due(q) and session.show_answer(q) == "73,728"
    assert not session.sittings[q.id].solved and session.score_line().startswith("Solved 0 of 6")


def test_a_passed_quiz_says_so(bank):
    session = Session(bank)
    for q in bank.questions:
        session.submit(q, "1 2" if isinstance(q, Self) else right_answer(q))
    assert session.score_line() == "Solved 6 of 6, 6 at the first try. Passed."


# --- the terminal


def typed(monkeypatch, *lines):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))


def test_terminal_plays_a_whole_quiz(bank, monkeypatch, capsys):
    q = bank.questions
    typed(monkeypatch, "a", "a c", "73,728", "(6, 4)", "True", right_answer(q[4]), right_answer(q[5]), "because", "a b")
    session = play(bank)
    out = capsys.readouterr().out
    assert "Solved 6 of 6, 6 at the first try. Passed." in out and session.sittings["99-r"].solved
    assert "[7/7]" in out and "You ticked 2 of 2 points." in out


def test_terminal_hint_skip_retry_and_give_up(bank, monkeypatch, capsys):
    typed(monkeypatch, "?", "x y z", "b", "a", "", "1", "2", "3", "q")
    play(bank)
    out = capsys.readouterr().out
    assert "Hint: h" in out and "not one of the 2 choices" in out and "f2" in out and "Skipped." in out
    assert "The answer: 73,728" in out and "Solved 1 of 6, 0 at the first try." in out and "Look again at: p" in out


@pytest.mark.parametrize("lines", [[], ["b"], ["a", "q"], ["a", "", "", "(6, 4)"], ["?"]])
def test_the_end_of_the_input_is_a_clean_end(bank, monkeypatch, capsys, lines):
    typed(monkeypatch, *lines)
    play(bank)
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith(("Solved", "Look again"))


def command(*words):
    parser = argparse.ArgumentParser()
    terminal.add_arguments(parser)
    return terminal.run(parser.parse_args(words))


def test_command(monkeypatch, capsys):
    assert command("--schema") == 0 and json.loads(capsys.readouterr().out) == json.loads(schema())
    assert command() == 0 and "00_start_here" in capsys.readouterr().out
    assert command("00", "--text") == 0 and "Quiz 00: Start here" in capsys.readouterr().out
    typed(monkeypatch, "q")
    assert command("00") == 0 and "Solved 0 of" in capsys.readouterr().out
    assert command("77") == 1 and "There is no quiz '77'" in capsys.readouterr().err


def test_command_verifies_for_authors(tmp_path, capsys):
    good = written(tmp_path, BANK)
    assert command(str(good), "--verify") == 0 and "every key was checked" in capsys.readouterr().out
    bad = written(tmp_path, BANK | {"questions": [NUMERIC | {"answer": 1}]}, "98_bad.yaml")
    assert command(str(bad), "--verify") == 1 and "99-n" in capsys.readouterr().out


# --- the notebook


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def key_of(question):
    """The key in the form that `fill` wants."""
    if isinstance(question, Single):
        return question.key[0]
    return question.key if isinstance(question, (Multi, Match)) else right_answer(question)


def fill(view, given):
    """Put an answer into the controls of a question, as a learner would."""
    kinds = ("Text", "Textarea", "ToggleButtons", "Checkbox", "Dropdown")
    controls = [w for w in walk(view.controls) if type(w).__name__ in kinds]
    if isinstance(view.question, Multi):
        for i, box in enumerate(controls):
            box.value = i in given
    elif isinstance(view.question, Match):
        for drop, place in zip(controls, given, strict=True):
            drop.value = place
    else:
        controls[0].value = given


def test_widgets_from_empty_to_passed(bank):
    from peft_from_scratch.quiz.widget import QuizView

    quiz = QuizView(bank)
    for view in quiz.questions.values():
        view.button.click()
        assert "Nothing" in view.feedback.value or "Compare" in view.feedback.value or "you gave" in view.feedback.value
        assert not view.button.disabled
    assert "Solved 0 of 6" in quiz.score.value
    for view in quiz.questions.values():
        q = view.question
        if isinstance(q, Self):
            next(w for w in walk(view.controls) if getattr(w, "description", "") == "Compare").click()
        else:
            fill(view, key_of(q))
        view.button.click()
        assert ("Right." in view.feedback.value or isinstance(q, Self)) and view.button.disabled
        assert q.explanation in view.feedback.value
    assert "Solved 6 of 6, 6 at the first try. Passed." in quiz.score.value


def test_widget_retry_hint_and_answer(bank):
    from peft_from_scratch.quiz.widget import QuizView

    quiz = QuizView(bank)
    view = quiz.questions["99-n"]
    fill(view, "36864")
    view.button.click()
    assert "half" in view.feedback.value and "Hint" not in view.feedback.value
    view.button.click()
    assert "Hint" in view.feedback.value and view.give_up.layout.display == "none"
    view.button.click()
    assert view.give_up.layout.display is None
    view.give_up.click()
    assert "73,728" in view.feedback.value and view.button.disabled and view.give_up.layout.display == "none"
    assert "Solved 0 of 6" in quiz.score.value and len(read_events()) == 4


def test_radio_labels_hold_no_maths(shipped):
    from peft_from_scratch.quiz.widget import QuizView

    for widget in walk(QuizView(shipped).box):
        if type(widget).__name__ in ("ToggleButtons", "Checkbox", "Dropdown"):
            labels = [str(label) for label, _ in getattr(widget, "options", [])] + [widget.description]
            assert not [label for label in labels if "$" in label]


def test_text_where_there_is_no_notebook(capsys, monkeypatch):
    from peft_from_scratch.quiz import quiz

    monkeypatch.delenv("PEFT_COURSE_MODE", raising=False)
    assert quiz("00") is None
    assert "Answer these in a terminal" in capsys.readouterr().out


def test_text_in_ci_mode_and_without_ipywidgets(monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: argparse.Namespace(kernel=1))
    monkeypatch.delenv("PEFT_COURSE_MODE", raising=False)
    assert show.has_widgets()
    monkeypatch.setenv("PEFT_COURSE_MODE", "ci")
    assert not show.has_widgets()
    monkeypatch.delenv("PEFT_COURSE_MODE")
    monkeypatch.setattr(show, "find_spec", lambda name: None)
    assert not show.has_widgets()


def test_a_saved_notebook_keeps_the_text_beside_the_widgets(bank, monkeypatch):
    from peft_from_scratch.quiz import widget

    seen = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: seen.append(data))
    widget.display_quiz(bank)
    assert "Answer these in a terminal" in seen[0]["text/plain"]
    assert seen[0]["application/vnd.jupyter.widget-view+json"]["model_id"]


def test_importing_the_package_imports_no_quiz_library():
    names = ("pydantic", "yaml", "ipywidgets")
    code = f"import sys, peft_from_scratch.quiz; print([m for m in {names} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
