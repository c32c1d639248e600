"""The written pages, course/pages/*.md, and the instructor's page of each lesson."""

from pathlib import Path

from ...check.exercise import Lesson
from ..lessons import notebook_path

FOLDER = Path(__file__).resolve().parent.parent / "pages"
LESSON_PAGES = "<!-- lesson pages -->"
SHEETS = "<!-- sheets -->"


def text_pages(lessons: list[Lesson]) -> dict[str, tuple[str, str]]:
    """Address -> (title, Markdown); a comment in a page stands for a list that the lessons fill."""
    made = {}
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        text = text.replace(LESSON_PAGES, _listed(lessons, "instructor-{id}.html", _instructor))
        text = text.replace(SHEETS, _listed(lessons, "sheet-{id}.html", lambda lesson: True))
        made[f"{path.stem}.html"] = title_of(text), text
    return made


def instructor_pages(lessons: list[Lesson]) -> dict[str, tuple[str, str]]:
    """The page that lies beside the notebooks, of each lesson that has one."""
    texts = {lesson: _instructor(lesson) for lesson in lessons}
    return {f"instructor-{each.id}.html": (title_of(text), text) for each, text in texts.items() if text}


def title_of(text: str) -> str:
    """The words of the first heading."""
    return next((line[2:].strip() for line in text.splitlines() if line.startswith("# ")), "Page")


def _instructor(lesson: Lesson) -> str:
    path = notebook_path(lesson).parent / "instructor" / f"{lesson.id}_{lesson.slug}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _listed(lessons: list[Lesson], address: str, there) -> str:
    lines = [f"- [{each.id} {each.title}]({address.format(id=each.id)})" for each in lessons if there(each)]
    return "\n".join(lines) or "None yet."
