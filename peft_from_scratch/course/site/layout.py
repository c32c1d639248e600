"""The frame of every page: head, skip link, navigation, theme, search, foot."""

from html import escape

NAVIGATION = (
    ("index.html", "Lessons"), ("practice.html", "Quizzes"), ("methods.html", "Methods"),
    ("comparison.html", "Comparison"), ("learner.html", "For learners"), ("instructor.html", "For instructors"),
    ("contributor.html", "For contributors"),
)  # fmt: skip
# Before the first paint, so that a chosen theme does not flash.
THEME = (
    "<script>try{const t=localStorage.getItem('peft-from-scratch.theme');"
    "if(t)document.documentElement.dataset.theme=t}catch{}</script>"
)


def frame(title: str, body: str, up: str = "", here: str = "", aside: str = "", scripts: str = "") -> str:
    """A whole page. `up` is the way to the site's root ("" or "../"), `here` the entry of NAVIGATION it belongs to."""
    mark = {here: ' aria-current="page"'}
    entries = (f'<li><a href="{up}{to}"{mark.get(to, "")}>{words}</a></li>' for to, words in NAVIGATION)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title, quote=False)} · PEFT from scratch</title>\n"
        f'<link rel="icon" href="data:,">\n<link rel="stylesheet" href="{up}assets/site.css">\n'
        f"{THEME}\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the text</a>\n'
        f'<header><a class="name" href="{up}index.html">PEFT from scratch</a>'
        f'<nav aria-label="Site"><ul>{"".join(entries)}</ul></nav>'
        f'<form class="find" role="search" aria-label="Site" action="{up}search.html"><label for="find">Search</label>'
        '<input type="search" id="find" name="q"></form>'
        '<button type="button" class="theme" hidden>Dark</button></header>\n'
        f'<div class="columns">{aside}<main id="main" tabindex="-1">\n{body}\n</main></div>\n'
        "<footer>Apache-2.0. Nothing on these pages is sent anywhere.</footer>\n"
        f'<script src="{up}assets/site.js"></script>\n{scripts}</body>\n</html>\n'
    )


def contents(headings: list[tuple[int, str, str]]) -> str:
    """The page's second-level headings as a list to jump from; empty for a short page."""
    entries = [f'<li><a href="#{anchor}">{escape(words)}</a></li>' for level, anchor, words in headings if level == 2]
    if len(entries) < 4:
        return ""
    return f"<aside><details open><summary>On this page</summary><ul>{''.join(entries)}</ul></details></aside>"
