"""The facts of a method that are the same for everybody: each page ends its docstring and then holds its card."""

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


@dataclass(frozen=True)
class Card:
    """What the table of all methods prints. `count` is a Python expression of what one site trains, in the shapes
    d_in and d_out and in the page's own arguments (rank, ...); the tests evaluate it. `peft` is the name in Hugging
    Face peft 0.21.2 (a PeftType or a switch of its LoraConfig), or empty."""

    name: str
    paper: str
    year: int
    source: str
    category: str
    attaches: str
    count: str
    merges: bool
    peft: str = ""

    def __post_init__(self):
        if self.category not in CATEGORIES:
            raise ValueError(f"{self.name}: unknown category {self.category!r}: one of {CATEGORIES}")
