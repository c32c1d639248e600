"""Two tasks made here, for tiny models and no network: the mood of a sentence, and one-digit sums.

The sentences are all combinations of the words below; a negation turns the mood round, so that a model that
only counts good and bad words fails on one in three.
"""

import itertools

SUBJECTS = ["the film", "this movie", "the plot", "the acting", "her music", "the ending", "his second book"]
VERBS = ["is", "was", "feels", "is not", "seems", "was never"]
DEGREES = ["", "really ", "quite ", "so "]
GOOD = ["good", "great", "funny", "moving", "clever", "warm", "brilliant", "fresh"]
BAD = ["bad", "dull", "boring", "awful", "weak", "cold", "stupid", "stale"]
ENDINGS = ["", " to watch", " in every scene", " from start to end"]


def sentences() -> list[dict]:
    """Every sentence with its label, 1 for a good word or a negated bad one."""
    rows = []
    for parts in itertools.product(SUBJECTS, VERBS, DEGREES, GOOD + BAD, ENDINGS):
        subject, verb, degree, word, ending = parts
        negated = verb.endswith((" not", " never"))
        rows.append({"text": f"{subject} {verb} {degree}{word}{ending} .", "label": int((word in GOOD) != negated)})
    return rows


def sums() -> list[dict]:
    """Every sum of two numbers below 30, as question and answer."""
    pairs = itertools.product(range(30), repeat=2)
    return [{"question": f"what is {a} plus {b} ?", "answer": str(a + b)} for a, b in pairs]


def words() -> list[str]:
    """Each word of both tasks, sorted: the whole words of the tiny models' vocabulary."""
    texts = [row["text"] for row in sentences()] + ["what is plus ?"]
    return sorted({word for text in texts for word in text.split()})
