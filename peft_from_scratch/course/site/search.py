"""The search index: one entry for each heading of each page, as a script that a page opened from a folder can load."""

import json
import re
from html import unescape

HEADING = re.compile(r'<h([1-4])(?: id="([^"]*)")?[^>]*>(.*?)</h\1>', re.DOTALL)
HIDDEN = re.compile(r"<(script|style|svg|form|annotation)\b.*?</\1>|<img[^>]*>", re.DOTALL)


def entries(address: str, title: str, body: str) -> list[dict]:
    """The parts of a page between its headings: where, what, and the words in it."""
    body = HIDDEN.sub(" ", body)
    marks = list(HEADING.finditer(body))
    found = []
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else len(body)
        heading, text = words(mark[3]), words(body[mark.end() : end])
        where = f"{address}#{mark[2]}" if mark[2] and mark[1] != "1" else address
        found.append({"u": where, "t": title, "h": "" if mark[1] == "1" else heading, "x": text[:1500]})
    return found


def words(page: str) -> str:
    """The text of a piece of HTML on one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def index_script(found: list[dict]) -> str:
    """`assets/index.js`."""
    return f"window.INDEX = {json.dumps(found, ensure_ascii=False, separators=(',', ':'))};\n"


PAGE = (
    '<h1>Search</h1><form role="search" class="big" aria-label="All pages"><label for="q">Words to look for</label> '
    '<input type="search" id="q" name="q" autocomplete="off"></form><p id="count" role="status"></p><ol id="hits"></ol>'
)
SCRIPTS = '<script src="assets/index.js"></script>\n<script src="assets/search.js"></script>\n'
