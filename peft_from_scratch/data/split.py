"""Fixed splits that no library version can change: duplicates out, then an order by the hash of the text.

A shuffle is only as stable as the random generator behind it; a SHA-256 is the same everywhere and for ever,
and as good an order for a split, since it knows nothing of the label.
"""

import hashlib
import re
from collections import defaultdict

Rows = list[dict]


def words_only(text: str) -> str:
    """The lower-case words of a text: two texts that differ in spacing, quotes or dots alone are the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def deduplicate(rows: Rows, text: str = "text", label: str = "label") -> Rows:
    """One row for each set of words, the first; none where its copies disagree about the label."""
    copies = defaultdict(list)
    for row in rows:
        copies[words_only(row[text])].append(row)
    return [same[0] for same in copies.values() if len({row[label] for row in same}) == 1]


def by_hash(rows: Rows, text: str = "text") -> Rows:
    """The rows in the order of the SHA-256 of their texts."""
    return sorted(rows, key=lambda row: hashlib.sha256(row[text].encode()).hexdigest())


def shares(size: int, counts: dict[int, int]) -> dict[int, int]:
    """`size` divided among labels in proportion to `counts`; the largest remainders get the odd ones."""
    total = sum(counts.values())
    exact = {label: size * n / total for label, n in counts.items()}
    out = {label: int(x) for label, x in exact.items()}
    for label in sorted(exact, key=lambda k: (out[k] - exact[k], k))[: size - sum(out.values())]:
        out[label] += 1
    return out


def stratified(rows: Rows, sizes: dict[str, int], text: str = "text", label: str = "label") -> dict[str, Rows]:
    """Disjoint splits of the given sizes, each with the label balance of the whole; what is over is left out."""
    groups = defaultdict(list)
    for row in by_hash(rows, text):
        groups[row[label]].append(row)
    counts = {key: len(group) for key, group in groups.items()}
    splits = {}
    for name, size in sizes.items():
        taken = [row for key, n in shares(size, counts).items() for row in groups[key][:n]]
        groups = {key: groups[key][n:] for key, n in shares(size, counts).items()}
        splits[name] = by_hash(taken, text)
    return splits


def in_order(rows: Rows, sizes: dict[str, int], text: str) -> dict[str, Rows]:
    """Disjoint splits of the given sizes for tasks without labels."""
    rows, splits = by_hash(rows, text), {}
    for name, size in sizes.items():
        splits[name], rows = rows[:size], rows[size:]
    return splits
