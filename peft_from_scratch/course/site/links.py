"""Where a link of a notebook or a page leads on the site."""

import re

KNOWN = {"methods.md": "methods.html", "../methods.md": "methods.html"}
LESSON = re.compile(r"(?:.*/)?(\d\d)_(\w+)\.ipynb(#.*)?$")
PAGE = re.compile(r"(?:.*/)?([a-z][a-z0-9-]*)\.md(#.*)?$")


def site_links(address: str) -> str | None:
    """The address on the site; None where the site has nothing, and the words alone remain."""
    if "OWNER/NAME" in address:
        return None
    if address.startswith(("https:", "http:", "mailto:", "#")) or address.endswith(".html"):
        return address
    if address in KNOWN:
        return KNOWN[address]
    if lesson := LESSON.match(address):
        return f"lesson-{lesson[1]}-{lesson[2].replace('_', '-')}.html{lesson[3] or ''}"
    if page := PAGE.match(address):
        return f"{page[1]}.html{page[2] or ''}"
    return None
