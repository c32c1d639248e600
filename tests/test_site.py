"""The site: whole pages, links that lead somewhere, nothing from a network; lessons executed or a sentence why not."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from peft_from_scratch.check.lookup import lessons
from peft_from_scratch.course import site as command
from peft_from_scratch.course.cli import main
from peft_from_scratch.course.errors import CourseError
from peft_from_scratch.course.lessons import notebook_path
from peft_from_scratch.course.site import build as building
from peft_from_scratch.course.site import comparison, execute, manifest, search
from peft_from_scratch.course.site.highlight import highlight
from peft_from_scratch.course.site.layout import contents, frame
from peft_from_scratch.course.site.lesson import lesson_body
from peft_from_scratch.course.site.links import site_links
from peft_from_scratch.course.site.markdown import Page
from peft_from_scratch.course.site.outputs import outputs_html

PICTURE = (
    '<figure><img alt="a line that falls" src="data:image/png;base64,AAAA"><figcaption>a line</figcaption></figure>'
)


class Found(HTMLParser):
    """Links, ids, and what a page would load."""

    VOID = ("meta", "link", "input", "br", "hr", "img", "col")

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.loaded, self.levels = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if tag == "a" else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.loaded += [named[n] for n in ("src", "href") if n in named and tag != "a"]
        self.open += [] if tag in self.VOID else [tag]
        assert tag != "img" or named.get("alt")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def made_up(path, mode="ci"):
    """The real notebook of a lesson, its outputs made up."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                new_output("stream", text="<printed>\n"),
                new_output("display_data", {"text/html": PICTURE}),
            ]
    return notebook


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "executed", made_up)
        assert main(["site", "--out", str(out), "--mode", "ci"]) == 0
    return out


@pytest.fixture(scope="session")
def pages(site):
    return {path.relative_to(site).as_posix(): Found(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_lesson_quiz_method_and_page_is_there(pages):
    for lesson in lessons().values():
        assert building.address(lesson) in pages and f"sheet-{lesson.id}.html" in pages
    for name in ("index", "practice", "methods", "comparison", "learner", "instructor", "contributor", "search"):
        assert f"{name}.html" in pages
    assert sum(name.startswith("code/") for name in pages) > 80


def test_every_link_leads_somewhere(site, pages):
    lost = []
    for name, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if re.match(r"https?:", address):
                continue
            target = (site / name).parent.joinpath(unquote(address)).resolve() if address else site / name
            there = pages.get(target.relative_to(site.resolve()).as_posix()) if target.is_file() else None
            if there is None or (anchor and anchor not in there.ids):
                lost.append((name, link))
    assert lost == []


def test_nothing_is_loaded_from_a_network(site, pages):
    for name, page in pages.items():
        assert page.open == [] and len(page.ids) == len(set(page.ids)), name
        for each in page.loaded:
            assert each.startswith("data:") or (site / name).parent.joinpath(each).is_file(), (name, each)
    for path in (site / "assets").iterdir():
        assert not re.search(
            r"url\(|@import|https?:", path.read_text(encoding="utf-8").replace("window.INDEX", "")
        ) or (path.name == "index.js")


def test_headings_are_in_order(pages):
    for name, page in pages.items():
        assert page.levels[0] == 1 and page.levels.count(1) == 1, name
        assert all(b <= a + 1 for a, b in zip(page.levels, page.levels[1:], strict=False)), (name, page.levels)


def test_no_maths_is_left_as_latex(site):
    for path in site.glob("*.html"):
        text = re.sub(r"<(script|code|pre|annotation)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert "$" not in text and not re.findall(r"\\[a-zA-Z]+", text), path.name


def test_a_lesson_page_has_its_figures_its_quiz_and_its_notice(site):
    text = (site / building.address(lessons()["00"])).read_text(encoding="utf-8")
    assert 'alt="a line that falls"' in text and "&lt;printed&gt;" in text
    assert 'data-quiz="00"' in text and 'id="quiz-data"' in text
    assert "these numbers mean nothing" in text and "Predict first" in text
    assert "OWNER/NAME" not in text and "colab-badge" not in text and "%pip install" not in text


def test_the_index_finds_what_the_pages_say(site):
    index = (site / "assets" / "index.js").read_text(encoding="utf-8")
    assert "learner-errors.html#training-diverged" in index and "Catastrophic forgetting" in index
    assert "data:image" not in index and "quiz-data" not in index


# --- the next build into the same folder


def test_pages_that_are_no_more_go_and_what_a_build_did_not_write_stays(tmp_path):
    manifest.publish(tmp_path, {"index.html": "1", "lesson-00.html": "1", "code/old.html": "1", "mine.html": "1"})
    (tmp_path / "mine.html").write_text("changed by hand")
    (tmp_path / "notes.txt").write_text("somebody else's")
    assert manifest.publish(tmp_path, {"index.html": "2"}) == ["mine.html"]
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"index.html", "mine.html", "notes.txt", manifest.NAME}
    assert (tmp_path / "index.html").read_text() == "2"
    assert manifest.publish(tmp_path, {"index.html": "2"}) == []  # said once


def test_a_list_that_no_build_wrote_removes_nothing(tmp_path):
    out, digest = tmp_path / "site", manifest._digest(b"1")
    outside, script = tmp_path / "outside.html", out / "run.py"
    out.mkdir()
    outside.write_text("1"), script.write_text("1")
    (out / "link.html").symlink_to(outside)
    for said in ({"../outside.html": digest, str(outside): digest, "run.py": digest, "link.html": digest}, [1], "{"):
        (out / manifest.NAME).write_text(said if said == "{" else json.dumps(said))
        manifest.publish(out, {"index.html": "1"})
        assert outside.exists() and script.exists() and (out / "link.html").is_symlink()


def test_a_build_that_is_killed_forgets_no_page(tmp_path, monkeypatch):
    manifest.publish(tmp_path, {"one.html": "1"})
    written = manifest.write

    def killed(path, content):
        if path.name == "three.html":
            raise KeyboardInterrupt
        return written(path, content)

    monkeypatch.setattr(manifest, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        manifest.publish(tmp_path, {"two.html": "2", "three.html": "3"})
    monkeypatch.undo()
    assert manifest.publish(tmp_path, {"four.html": "4"}) == []
    assert {path.name for path in tmp_path.iterdir()} == {"four.html", manifest.NAME}


# --- pieces


def test_search_entries_are_cut_at_headings():
    body = '<h1 id="t">T</h1><p>one &amp; <b>two</b></p><h2 id="a">Head</h2><script>no</script><img src="x">three'
    assert search.entries("p.html", "T", body) == [
        {"u": "p.html", "t": "T", "h": "", "x": "one & two"},
        {"u": "p.html#a", "t": "T", "h": "Head", "x": "three"},
    ]


def test_markdown_pieces():
    page = Page(site_links)
    text = page.html(
        "# A & B\n\n## A & B\n\n$x_1 < 2$ [m](methods.md) [l](../notebooks/04_lora.ipynb) [s](src/x.py) `a`"
    )
    assert page.headings == [(1, "a-b", "A & B"), (2, "a-b-2", "A & B")]
    assert "<math" in text and 'href="methods.html"' in text and 'href="lesson-04-lora.html"' in text
    assert "s <code>a</code>" in text and "src/x.py" not in text
    assert "<img" not in page.html("![words](https://example.org/a.png)") and "words" in page.html(
        "![words](http://a.b/c)"
    )
    assert '<pre tabindex="0"><code><span class="k">if</span>' in page.html("```python\nif a < b:\n    pass\n```")


def test_links_of_a_template_are_dropped():
    assert site_links("https://github.com/OWNER/NAME") is None and site_links("results") is None
    assert site_links("learner.md#x") == "learner.html#x" and site_links("https://arxiv.org") == "https://arxiv.org"


def test_outputs():
    cell = new_code_cell("x")
    cell.outputs = [
        new_output("stream", text="a\x1b[31mred\x1b[0m\n"),
        new_output("stream", text="1%|   |\r100%|###| 8/8 [00:01<00:00, 8.0it/s]\nstep 1\rstep 2\n", name="stderr"),
        new_output("execute_result", {"text/plain": "<Figure>", "image/png": "AAAA\n"}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "a < b"}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox(children=())"}),
    ]
    assert outputs_html(cell) == (
        '<pre class="printed" tabindex="0">ared\nstep 2</pre>'
        '<img class="drawn" alt="&lt;Figure&gt;" src="data:image/png;base64,AAAA">'
        '<pre class="printed" tabindex="0">a &lt; b</pre><p class="note">A control stands here in the notebook.</p>'
    )


def test_code_is_escaped_and_whole():
    code = 'class A(nn.Module):\n    """<b>"""\n\n    def f(self, x):  # a & b\n        return x < 1\n'
    made = highlight(code)
    assert re.sub("<[^>]+>", "", made).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == code.rstrip()
    assert '<span class="f">A</span>' in made and '<span class="c"># a &amp; b</span>' in made


def test_the_comparison_is_taken_over_or_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "REPORT", tmp_path / "report.html")
    assert "no report in this copy" in comparison.body() and comparison.files() == {}
    comparison.REPORT.write_text("<html><head></head><body><main><h1>R</h1></main></body></html>")
    assert 'href="report.html"' in comparison.body()
    taken = comparison.files()["report.html"]
    assert "Back to the course" in taken


# --- execution


def tiny(tmp_path, *sources):
    path = tmp_path / "77_tiny.ipynb"
    cells = [new_markdown_cell("# Tiny"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "P"}}), path)
    return path


def test_a_lesson_is_executed_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path / "cache"))
    path = tiny(tmp_path, "import os; print(os.environ['PEFT_COURSE_MODE'], 6 * 7)")
    monkeypatch.setattr(execute, "notebook_path", lambda lesson: path)
    for said in (True, False):
        execute.run_all([lessons()["00"]], "ci")
        out, err = capfd.readouterr()
        assert out.startswith("1 of 1: 00 Start here, in ci mode") == said and err == ""
        assert execute.executed(path, "ci").cells[1].outputs[0].text == "ci 42\n"
    assert execute.fingerprint(path, "ci") != execute.fingerprint(path, "cpu")


def test_a_build_that_was_stopped_goes_on_with_the_lessons_that_are_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path))
    monkeypatch.setattr(execute, "run_times", lambda lesson: {"cpu": 120.0})
    chosen, ran = list(lessons().values())[:3], []

    def stops_in_the_second(path, mode):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(path)
        execute.write(execute._kept(path, mode), "{}")

    monkeypatch.setattr(execute, "executed", stops_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        execute.run_all(chosen, "cpu")
    monkeypatch.setattr(execute, "executed", lambda path, mode: ran.append(path))
    execute.run_all(chosen, "cpu")
    assert ran == [notebook_path(each) for each in chosen]
    said = [line.split(";") for line in capsys.readouterr().out.splitlines()]
    assert [line[0].split(":")[0] for line in said] == ["1 of 3", "2 of 3", "2 of 3", "3 of 3"]
    assert [int(line[1].split()[0]) for line in said] == [6, 4, 4, 2]


def test_a_lesson_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PFS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CourseError, match=r"77_tiny, cell 1 .*ZeroDivisionError.*build the site again"):
        execute.executed(tiny(tmp_path, "1 / 0"), "ci")
    assert not list((tmp_path / "cache").rglob("*.ipynb"))


def test_wrong_input_is_one_sentence(tmp_path, monkeypatch, capsys):
    assert main(["site", "--out", str(tmp_path), "--lesson", "88"]) == 1
    assert "There is no lesson '88'" in capsys.readouterr().err
    monkeypatch.setattr(command, "NEEDED", {"no_such_library": "a-library"})
    assert main(["site", "--out", str(tmp_path)]) == 1
    assert "Not installed: a-library. Run: pip install a-library" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_lesson_without_a_quiz_and_a_short_page():
    notebook = made_up(notebook_path(lessons()["00"]))
    assert 'class="quiz"' not in lesson_body(notebook, Page(site_links), None, "cpu")
    assert contents([(2, "a", "A")]) == "" and "Skip to the text" in frame("T & U", "<h1>x</h1>")
