"""Slides and handouts: what a slide takes of a lesson, whose notes go where; a sentence where a tool is missing."""

import re
import shutil

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_site import PICTURE, Found, made_up

from peft_from_scratch.check.lookup import lessons
from peft_from_scratch.course import handouts, npm
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.errors import CourseError
from peft_from_scratch.course.lessons import notebook_path
from peft_from_scratch.course.npm import REVEAL, Package, members
from peft_from_scratch.course.site import execute
from peft_from_scratch.course.slides.deck import deck, kept, pieces
from peft_from_scratch.course.slides.notes import Notes, _names, read_notes
from peft_from_scratch.course.slides.page import page

PAGE = """# 77 Made up: for the instructor

**Aim.** One sentence.

| minutes | what | slack |
|---:|---|---|
| 3 | questions | |
| 14 | Exercises 1 and 2; a run | 2 |
| 20 | Exercises 3 to 5 | |

**Where people get stuck**

- *Exercise 2.* Over
  two lines.
- *Exercise 4.* Elsewhere.

**Ask the room**

1. Why?

**Shorter cut.** Less.
"""


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "77_made_up.md").write_text(PAGE)
    return read_notes(tmp_path / "77_made_up.md")


def test_notes_are_cut_from_the_instructors_page(notes):
    assert notes.rows == [(3, "questions"), (14, "Exercises 1 and 2; a run"), (20, "Exercises 3 to 5")]
    assert notes.opening().startswith("One sentence.\n\n")
    assert "- 14 min: Exercises 1 and 2" in notes.opening()
    assert notes.exercise(2) == "14 min: Exercises 1 and 2; a run\n\n*Exercise 2.* Over two lines."
    assert notes.exercise(4) == "20 min: Exercises 3 to 5\n\n*Exercise 4.* Elsewhere."
    assert notes.exercise(9) == "" and notes.asking() == "1. Why?" and "Shorter cut: Less." in notes.closing()


def test_a_lesson_without_a_page_has_empty_notes(tmp_path):
    nothing = read_notes(tmp_path / "none.md")
    assert nothing == Notes() and nothing.opening() == nothing.exercise(1) == nothing.closing() == ""


@pytest.mark.parametrize(
    ("what", "numbers"),
    [("Exercise 3", {3}), ("Exercises 3 and 4", {3, 4}), ("Exercises 1 to 3; quiz", {1, 2, 3}), ("quiz 12", set())],
)
def test_exercises_named_in_a_plan(what, numbers):
    assert {number for number in range(1, 9) if _names(what, number)} == numbers


def test_a_slide_takes_what_it_can_carry():
    part = (
        "## Head\n\nA first sentence. "
        + "Many words follow here. " * 20
        + "\n\nPlain second paragraph. **Which one?** It goes on."
        "\n\n$$y = W x$$\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two\n\n"
        "<details><summary>x</summary>\n\nhidden\n</details>"
    )
    text = kept(part)
    assert text.startswith("## Head\n\nA first sentence.") and len(text.split()) < 90
    assert "**Which one?**" in text and "Plain second" not in text and "$$y = W x$$" in text
    assert "| 1 | 2 |" in text and "- two" in text and "summary" not in text


def test_pieces_are_cut_at_headings_only():
    found = pieces("before\n\n## A\n\n```\n# no heading\n```\n\n### B\ntext")
    assert [(level, part.split("\n")[0]) for level, part in found] == [(9, "before"), (2, "## A"), (3, "### B")]


@pytest.fixture(params=sorted(lessons()))
def lesson(request):
    try:
        notebook_path(lessons()[request.param])
    except CourseError as error:
        pytest.skip(str(error))
    return lessons()[request.param]


def test_every_exercise_has_its_slide_with_its_minutes(lesson):
    path = notebook_path(lesson)
    stacks = deck(lesson, made_up(path), read_notes(path.parent / "instructor" / f"{path.stem}.md"))
    slides = [slide for stack in stacks for slide in stack]
    assert slides[0].text.startswith(f"# {lesson.id}") and all(slide.text or slide.html for slide in slides)
    posed = [slide for slide in slides if re.search(r"^### Exercise \d+ ", slide.text, re.MULTILINE)]
    assert [slide.seconds for slide in posed] == [60 * task.minutes for task in lesson.exercises]
    assert all("source" in slide.html for slide in posed) and any(slide.text == "### Reveal" for slide in slides)
    assert not any("reference" in slide.html and "class Reference" in slide.html for slide in slides)


def test_text_after_a_figure_starts_a_slide_and_a_bare_heading_does_not():
    reveal = new_code_cell('reveal("77.x", 1)')
    reveal.outputs = [new_output("display_data", {"text/html": PICTURE})]
    cells = [new_markdown_cell("# 77 T\n\nAim."), new_markdown_cell("## Bare\n\n### Part\n\nBefore."), reveal]
    notebook = new_notebook(cells=[*cells, new_markdown_cell("After.")])
    first, second = deck(lessons()["00"], notebook, Notes(parts={"Ask the room": "Why?"}))
    assert [slide.text for slide in second] == ["*Bare*\n\n### Part\n\nBefore.", "### Reveal", "After."]
    assert second[1].html == PICTURE and second[1].notes == "Why?" and first[0].text == "# 77 T\n\nAim."


def test_what_is_worked_out_stands_under_its_words():
    cells = [new_markdown_cell("# 77 T\n\nAim."), new_markdown_cell("## One\n\nHere it is, worked out."),
             new_code_cell("y = x @ A.T"), new_code_cell("print(y)")]  # fmt: skip
    stacks = deck(lessons()["00"], new_notebook(cells=cells), Notes())
    assert stacks[1][0].html.count("<pre") == 1 and "A.T" in stacks[1][0].html and "print" not in stacks[1][0].html


def reveal_or_skip():
    try:
        return members(REVEAL)
    except CourseError as error:
        pytest.skip(str(error))


def test_a_deck_is_one_file(tmp_path, monkeypatch, capsys):
    reveal_or_skip()
    monkeypatch.setattr(execute, "executed", made_up)
    assert main(["slides", "--out", str(tmp_path), "--mode", "ci", "--lesson", "02"]) == 0
    text = (tmp_path / "02_mechanism.html").read_text(encoding="utf-8")
    seen = Found(text)
    assert seen.open == [] and all(each.startswith("data:") for each in seen.loaded)
    styles = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert re.findall(r"@import|url\((?!data:)", styles) == []
    assert text.count('<aside class="notes">') > 5 and "means nothing" in text and "defaultTiming" in text
    assert "S opens the speaker's view" in capsys.readouterr().out


def test_a_page_without_slides_still_is_a_page():
    made = page(lessons()["00"], [], {name: b"" for name in FILES})
    assert Found(made).open == []


FILES = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "dist/plugin/notes.js")


# --- npm


def test_a_package_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    with pytest.raises(CourseError, match=r"npm is not installed.*reveal\.js-6\.0\.2\.tgz"):
        members(REVEAL, tmp_path)


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(CourseError, match="could not be fetched from npm; it is needed once"):
        members(REVEAL, tmp_path)
    assert not list(tmp_path.rglob("*.tgz"))


def test_other_bytes_than_the_pinned_ones_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(npm, "_pack", lambda package, folder: (npm.Path(folder) / package.file).write_bytes(b"other"))
    with pytest.raises(CourseError, match="SHA-512 differs"):
        members(Package("x", "1.0.0", "sha512-AAAA"), tmp_path)
    assert not list(tmp_path.rglob("*.tgz"))


# --- handouts


def test_no_browser_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handouts.shutil, "which", lambda name: None)
    monkeypatch.setattr(handouts, "MAC", tmp_path / "none")
    assert main(["print", "--out", str(tmp_path), "--lesson", "00"]) == 1
    assert "needs Chromium or Chrome" in capsys.readouterr().err


def test_a_browser_that_prints_nothing_is_one_sentence():
    with pytest.raises(CourseError, match="true printed nothing"):
        handouts.pdf("<p>x</p>", shutil.which("true"))


@pytest.mark.slow
def test_a_handout_is_a_pdf(tmp_path, monkeypatch):
    if not any(map(shutil.which, handouts.BROWSERS)):
        pytest.skip("neither Chromium nor Chrome is installed")
    monkeypatch.setattr(execute, "executed", made_up)
    assert main(["print", "--out", str(tmp_path), "--lesson", "00", "--mode", "ci"]) == 0
    made = (tmp_path / "00_start_here.pdf").read_bytes()
    assert made.startswith(b"%PDF-") and made.rstrip().endswith(b"%%EOF") and made.count(b"/Type /Page") > 5
