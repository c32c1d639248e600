"""All pages of the site, made before any is written."""

from html import escape
from pathlib import Path

from ...check.exercise import Lesson
from ...check.lookup import lessons
from ...quiz.load import QuizError, load_quiz, quiz_names
from ...quiz.model import Quiz
from ...quiz.web.page import practice, quiz_script, styles
from ..errors import CourseError
from ..files import folder
from ..lessons import notebook_path
from . import comparison, execute, methods, search
from .layout import contents, frame
from .lesson import lesson_body
from .links import site_links
from .manifest import publish
from .markdown import Page
from .pages import instructor_pages, text_pages
from .sheet import sheet_body

ASSETS = Path(__file__).parent / "assets"


class Site:
    """Addresses and finished pages; every page is searched, but for those that only repeat."""

    def __init__(self):
        self.files: dict[str, str] = {}
        self.index: list[dict] = []

    def add(self, address: str, title: str, body: str, searched: bool = True, **framed: str) -> None:
        self.files[address] = frame(title, body, up="../" * address.count("/"), **framed)
        if searched:
            self.index += search.entries(address, title, body)


def build(out: Path, mode: str, only: list[str] | None = None) -> int:
    """Make the site in `out`; returns the number of pages. CourseError says what is missing."""
    chosen = choose(only)
    quizzes = {quiz.quiz: quiz for quiz in all_quizzes()}
    folder(out)
    execute.run_all(chosen, mode)
    site = Site()
    site.add("index.html", "Lessons", index_body(chosen), here="index.html")
    for place, lesson in enumerate(chosen):
        add_lesson(site, lesson, quizzes.get(lesson.id), mode, steps(chosen, place))
    every = list(quizzes.values())
    body = f"<h1>Quizzes</h1>{practice(every)}"
    site.add("practice.html", "Quizzes", body, False, here="practice.html", scripts=quiz_script(every))
    site.add("methods.html", "Methods", methods.table_body(), here="methods.html")
    for address, (title, code) in methods.code_pages().items():
        site.add(address, title, code, here="methods.html")
    for address, (title, text) in {**text_pages(chosen), **instructor_pages(chosen)}.items():
        page = Page(site_links)
        body = page.html(text)
        here = f"{address.split('-')[0].removesuffix('.html')}.html"
        site.add(address, title, body, here=here, aside=contents(page.headings))
    site.add("comparison.html", "Comparison", comparison.body(), here="comparison.html")
    site.add("search.html", "Search", search.PAGE, False, scripts=search.SCRIPTS)
    for name in publish(out, site.files | comparison.files() | assets(site)):
        print(f"{out / name} is no page any more, but somebody changed it: it stays")
    return len(site.files)


def choose(only: list[str] | None) -> list[Lesson]:
    """All lessons, or those that are named."""
    known = lessons()
    strangers = sorted(set(only or ()) - set(known))
    if strangers:
        raise CourseError(f"There is no lesson {strangers[0]!r}. Lessons: {', '.join(known)}.")
    return [each for name, each in known.items() if not only or name in only]


def all_quizzes() -> list[Quiz]:
    try:
        return [load_quiz(name) for name in quiz_names()]
    except QuizError as error:
        raise CourseError(str(error)) from None


def address(lesson: Lesson) -> str:
    return f"lesson-{lesson.id}-{lesson.slug.replace('_', '-')}.html"


def title_of(lesson: Lesson) -> str:
    return f"{lesson.id} {lesson.title}"


def add_lesson(site: Site, lesson: Lesson, quiz: Quiz | None, mode: str, foot: str) -> None:
    """The lesson's page, and its sheet to print."""
    notebook, page = execute.executed(notebook_path(lesson), mode), Page(site_links)
    body = lesson_body(notebook, page, quiz, mode) + foot
    scripts = quiz_script([quiz]) if quiz else ""
    aside = contents(page.headings)
    site.add(address(lesson), title_of(lesson), body, here="index.html", aside=aside, scripts=scripts)
    site.add(f"sheet-{lesson.id}.html", f"Sheet {lesson.id}", sheet_body(lesson, notebook), False, here="learner.html")


def steps(chosen: list[Lesson], place: int) -> str:
    """The way to the lessons before and after."""
    before = chosen[place - 1] if place else None
    after = chosen[place + 1] if place + 1 < len(chosen) else None
    links = [
        f'<a href="{address(each)}">{words} {escape(title_of(each))}</a>' if each else "<span></span>"
        for words, each in (("Before:", before), ("Next:", after))
    ]
    return f'<nav class="steps" aria-label="Lessons">{"".join(links)}</nav>'


def index_body(chosen: list[Lesson]) -> str:
    """The first page."""
    entries = "".join(
        f'<li><a href="{address(each)}">{escape(title_of(each))}</a><p>{each.minutes} minutes, '
        f'{len(each.exercises)} exercises. <a href="sheet-{each.id}.html">Sheet to print</a></p></li>'
        for each in chosen
    )
    return (
        "<h1>Parameter-efficient fine-tuning from scratch</h1>"
        "<p>A course in graded notebooks: write every parameter-efficient fine-tuning (PEFT) method from its equation, "
        "see it checked within a second, and measure it against full fine-tuning on a real pretrained model. Two CPU "
        "cores are enough. These pages are the lessons as they ran, to read and to search; the exercises are done in "
        "the notebooks, the quizzes work here.</p>"
        f'<h2>Lessons</h2><ol class="lessons-list">{entries}</ol>'
    )


def assets(site: Site) -> dict[str, str]:
    """Styles, scripts and the search index."""
    made = {
        f"assets/{path.name}": path.read_text(encoding="utf-8") for path in ASSETS.iterdir() if path.suffix == ".js"
    }
    made["assets/site.css"] = styles() + (ASSETS / "site.css").read_text(encoding="utf-8")
    made["assets/index.js"] = search.index_script(site.index)
    return made
