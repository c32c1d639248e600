"""A bank in the formats of other systems: Moodle, any learning system that reads QTI, Anki, jupyterquiz."""

from collections.abc import Callable
from typing import NamedTuple

from ..model import Quiz
from .anki import to_anki
from .gift import to_gift
from .jupyterquiz import to_jupyterquiz
from .qti import to_qti


class Format(NamedTuple):
    """The ending of the file, what reads it, and the function that makes it."""

    suffix: str
    reader: str
    make: Callable[[Quiz], str | bytes]


FORMATS = {
    "gift": Format(".gift.txt", "Moodle: question bank, import, GIFT", to_gift),
    "qti": Format(".qti.zip", "learning systems that read QTI 2.1", to_qti),
    "anki": Format(".anki.txt", "Anki: File, Import", to_anki),
    "jupyterquiz": Format(".jupyterquiz.json", "jupyterquiz: display_quiz(file)", to_jupyterquiz),
}
