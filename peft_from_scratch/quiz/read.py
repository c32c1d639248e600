"""Read answers as people type them: 73,728 · 7.4e4 · 0.3 % · 2/3 · b · 3 1 2 · 1b 2a."""

import re

SPACES = r"(?<=\d)[\s_'\u2009\u202f](?=\d{3}(?!\d))"  # 73 728, 73_728, 73'728


class Unreadable(ValueError):
    """An answer that cannot be read; it does not count as a try. The message says how to write one."""


def number(text: str | float, unit: str = "") -> float:
    """The number in `text`.

    A percent sign divides by 100 unless the unit itself is "%". A comma before three digits
    separates thousands; before any other count it is a decimal comma. Raises Unreadable.
    """
    if isinstance(text, (int, float)):
        return float(text)
    if not text.strip():
        raise Unreadable("Nothing is written yet.")
    body = text.strip().lower().lstrip("≈~= ").replace("−", "-").removesuffix(unit.lower()).strip()
    percent = body.endswith("%")
    body = re.sub(SPACES, "", body.removesuffix("%").strip())
    body = re.sub(r"\s*[×x*]\s*10(\^|\*\*)", "e", body)  # 7.4 × 10^4
    parts = body.split("/")
    try:
        if len(parts) > 2:
            raise ValueError
        value = _plain(parts[0]) / (_plain(parts[1]) if len(parts) == 2 else 1.0)
    except (ValueError, ZeroDivisionError):
        how = "Write for example 73,728 or 7.4e4 or 2/3."
        raise Unreadable(f"'{text.strip()}' cannot be read as a number. {how}") from None
    return value / 100 if percent and unit != "%" else value


def _plain(text: str) -> float:
    """One number without a fraction bar."""
    text = text.strip()
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    elif re.fullmatch(r"[-+]?\d+,\d+(e[-+]?\d+)?", text):
        text = text.replace(",", ".")
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text):
        raise ValueError(text)
    return float(text)


def positions(given, count: int, what: str = "choice") -> list[int]:
    """Positions from 0 in text like "b", "(b)", "1 3", "a, c", "312"; lists pass through.

    Raises Unreadable if one is outside 1..count or nothing is there.
    """
    if isinstance(given, str):
        marks = [mark for mark in re.findall(r"\d+|[a-z]+", given.lower()) if mark != "and"]
        if len(marks) == 1 and (marks[0].isalpha() or count <= 9):
            marks = list(marks[0])  # "ac" and "312" are several marks
        found = [_position(mark) for mark in marks]
    else:
        found = [given] if isinstance(given, int) else list(given)
    if not found:
        raise Unreadable("Nothing is chosen yet.")
    if not all(0 <= place < count for place in found):
        last = chr(ord("a") + count - 1)
        raise Unreadable(f"'{given}' is not one of the {count} {what}s: write a to {last}, or 1 to {count}.")
    return found


def _position(mark: str) -> int:
    """The position that one mark names, from 0; -1 if it names none."""
    if mark.isdigit():
        return int(mark) - 1 if len(mark) < 3 else -1
    return ord(mark) - ord("a") if len(mark) == 1 else -1


def matched(given, lefts: int, rights: int) -> list[int]:
    """The right side of each left one, from "1b 2a 3c", "b a c", "bac" or a list."""
    if isinstance(given, str):
        named = dict(re.findall(r"(\d+)\s*[-:=.]?\s*([a-z])(?![a-z])", given.lower()))
        if named and not set(named) <= {str(i + 1) for i in range(lefts)}:
            raise Unreadable(f"Write a letter for each of 1 to {lefts}, for example 1b 2a.")
        given = " ".join(named.get(str(i + 1), "") for i in range(lefts)) if named else given
    found = positions(given, rights, "option")
    if len(found) != lefts:
        raise Unreadable(f"Give one letter for each of 1 to {lefts}; you gave {len(found)}.")
    return found


def printed(text: str) -> str:
    """Printed text with what a reader may write otherwise taken out: spaces, case, quotes."""
    lines = [re.sub(r"\s+", " ", line.strip().strip("'\"`")) for line in text.strip().splitlines()]
    return re.sub(r" ?([,()\[\]:=]) ?", r"\1", "\n".join(lines)).lower()
