"""The facts of a method, read from where its reader finds them: the page's docstring.

The first paragraph is "NAME: the idea.  AUTHORS YEAR, SOURCE." The last one is "Kind: ... On: ... Trains: ...
Merges: ... peft: ...". A page of several methods has one for each, which begins with "Method: ... Paper: ...".
"""

import re
from dataclasses import dataclass

CATEGORIES = (  # Lialin, Deshpande and Rumshisky 2023, arXiv:2303.15647, section 3; hybrids join several
    "selective",
    "additive: adapter",
    "additive: soft prompt",
    "additive: other",
    "reparametrized",
    "hybrid",
    "memory",  # trains all weights, thriftily: outside that taxonomy
    "combination",  # of what other methods have trained: outside it too
)
FIELD = re.compile(r"(?:^|\s)(Method|Paper|Kind|On|Trains|Merges|peft): ")
FIRST = re.compile(r"(?P<name>.+?): .*?\.(?:  |\n)(?P<paper>.*\b(?:19|20)\d\d\b.*)", re.DOTALL)
YEAR = re.compile(r"\b(?:19|20)\d\d\b")


@dataclass(frozen=True)
class Card:
    """What the table of all methods prints. `count` is a Python expression of what one site trains, in the shapes
    d_in and d_out and in the page's own arguments (rank, ...); the tests evaluate it. `peft` is the name in Hugging
    Face peft 0.21.2 (a PeftType or a switch of its LoraConfig), or empty."""

    name: str
    paper: str
    category: str
    attaches: str
    count: str
    merges: bool
    peft: str = ""

    @property
    def year(self) -> int:
        """Of the paper; 0 where there is none."""
        found = YEAR.search(self.paper)
        return int(found[0]) if found else 0


def cards(docstring: str) -> list[Card]:
    """The cards of a page, or none. ValueError for a paragraph of facts that lacks one or names an unknown kind."""
    first, *others = docstring.strip().split("\n\n")
    return [read(text, first) for text in others if re.match(r"(Method|Paper|Kind): ", text)]


def read(paragraph: str, first: str) -> Card:
    """One card; what the paragraph does not say is taken from the page's `first` one."""
    _, *parts = FIELD.split(" ".join(paragraph.split()))
    facts = dict(zip(parts[::2], (value.strip().removesuffix(".") for value in parts[1::2]), strict=True))
    head = FIRST.fullmatch(first)
    name = facts.get("Method") or first.split(": ")[0]
    paper = facts.get("Paper") or (" ".join(head["paper"].split()).removesuffix(".") if head else "")
    missing = [field for field in ("Kind", "On", "Trains", "Merges") if not facts.get(field)]
    if missing or not paper:
        raise ValueError(f"{name}: the docstring's last paragraph does not say {', '.join(missing or ['the paper'])}")
    if facts["Kind"] not in CATEGORIES or facts["Merges"] not in ("yes", "no"):
        raise ValueError(f"{name}: Kind is one of {CATEGORIES} and Merges yes or no, not {facts}")
    return Card(
        name, paper, facts["Kind"], facts["On"], facts["Trains"], facts["Merges"] == "yes", facts.get("peft", "")
    )
