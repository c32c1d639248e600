"""The deck as one file: reveal.js and its speaker's view inside, colours of ours, nothing from a network."""

from html import escape
from pathlib import Path

from ...check.exercise import Lesson
from ..site.links import site_links
from ..site.markdown import Page
from .deck import Slide

STYLE = Path(__file__).with_name("slides.css")
START = (
    "Reveal.initialize({hash: true, width: 1280, height: 720, margin: 0.04, center: false, slideNumber: 'c/t',"
    "transition: 'none', controlsTutorial: false, defaultTiming: 60, plugins: [RevealNotes]});"
)


def page(lesson: Lesson, stacks: list[list[Slide]], reveal: dict[str, bytes]) -> str:
    """The whole file of a lesson's deck."""
    render = Page(site_links)
    body = "\n".join(_stack(stack, render) for stack in stacks)
    styles = "\n".join(_text(reveal, name) for name in ("dist/reset.css", "dist/reveal.css"))
    scripts = "\n".join(_script(_text(reveal, name)) for name in ("dist/reveal.js", "dist/plugin/notes.js"))
    title = escape(f"{lesson.id} {lesson.title}", quote=False)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{styles}\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f'<main class="reveal"><div class="slides">\n{body}\n</div></main>\n'
        f"{scripts}\n{_script(START)}\n</body>\n</html>\n"
    )


def _stack(stack: list[Slide], render: Page) -> str:
    slides = "\n".join(_slide(each, render) for each in stack)
    return f"<section>\n{slides}\n</section>" if len(stack) > 1 else slides


def _slide(slide: Slide, render: Page) -> str:
    notes = f'<aside class="notes">{render.html(slide.notes)}</aside>' if slide.notes else ""
    size = "" if slide.size == 1 else f' style="font-size: {slide.size:.2f}em"'
    return f'<section{size} data-timing="{slide.seconds}">{render.html(slide.text)}{slide.html}{notes}</section>'


def _text(files: dict[str, bytes], name: str) -> str:
    return files[name].decode("utf-8").replace("//# sourceMappingURL=", "// map: ")


def _script(code: str) -> str:
    """A script inside a page must not hold its own end."""
    return "<script>" + code.replace("</script", r"<\/script") + "</script>"
