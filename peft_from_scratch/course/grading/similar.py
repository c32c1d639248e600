"""Which learners' answers are alike where most people's differ: a note that asks for a look, never a verdict.

An answer that many give, or that is short, says nothing. What counts is a form that only two or three share.
"""

from collections import Counter, defaultdict
from itertools import combinations

MOST_SHARE = 3  # a form that more learners share is a usual one
MIN_LEARNERS = 5  # in a smaller group nothing is unusual


def alike(records: dict[str, dict]) -> list[tuple[str, str, int, int]]:
    """(one, other, answers equal to the letter, answers of the same shape) for pairs with two or more unusual ones."""
    pairs: dict[tuple[str, str], Counter] = defaultdict(Counter)
    for kind in (0, 1):
        for forms in _forms(records, kind).values():
            if sum(map(len, forms.values())) < MIN_LEARNERS:
                continue
            for sharing in forms.values():
                if 1 < len(sharing) <= MOST_SHARE:
                    for pair in combinations(sorted(sharing), 2):
                        pairs[pair][kind] += 1
    found = [(*pair, count[0], count[1]) for pair, count in pairs.items() if count[1] >= 2]
    return sorted(found, key=lambda each: (-each[2], -each[3], each[:2]))


def _forms(records: dict[str, dict], kind: int) -> dict[str, dict[str, set[str]]]:
    """{exercise: {fingerprint: learners}}; kind 0 is to the letter, 1 up to the choice of names."""
    forms: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for learner, record in records.items():
        for name, mark in record.get("marks", {}).items():
            if mark.get("alike"):
                forms[name][mark["alike"][kind]].add(learner)
    return forms
