"""The class page: which exercise went how, which fault how often, who stands where, and what deserves a look."""

import re
from collections import Counter, defaultdict
from html import escape

from ...check.lookup import lesson
from ..page import bar, page, raw, table, tag
from .feedback import WORDS, code_marks
from .similar import alike
from .totals import totals

Rows = list[tuple[str, str, dict]]  # (learner, page, record)


def class_page(rows: Rows, how: list[str]) -> str:
    """The page as HTML; `how` says how the batch was graded."""
    good = [row for row in rows if "error" not in row[2]]
    by_lesson = defaultdict(list)
    for row in good:
        by_lesson[row[2]["lesson"]].append(row)
    return page(
        "The class",
        tag("h1", "The class"),
        tag("p", f"{len(rows)} files, {len(good)} graded. " + " ".join(how), cls="soft"),
        *(part for one, theirs in sorted(by_lesson.items()) for part in _lesson(one, theirs)),
        *_looks(rows),
        *_alike(rows),
        *_learners(rows),
    )


def _lesson(id: str, rows: Rows) -> list[str]:
    lines = []
    for task in lesson(id).exercises:
        marks = [row[2]["marks"][task.name] for row in rows if task.name in row[2]["marks"]]
        if marks:
            count = Counter(mark["status"] for mark in marks)
            passed, idle = count["passed"], count["unwritten"]
            others = len(marks) - passed - idle
            share = sum(mark["points"] for mark in marks) / (len(marks) * task.points)
            lines.append([escape(task.title), str(passed), str(others), str(idle), f"{share:.0%}",
                          bar(passed / len(marks), others / len(marks))])  # fmt: skip
    heads = ["exercise", "passed", "not yet", "not written", "points", "passed, not yet"]
    return [tag("h2", f"{id} {lesson(id).title}"), table(heads, lines, (1, 2, 3, 4)), *_faults(rows)]


def _faults(rows: Rows) -> list[str]:
    """The same first advice, counted: what to explain again."""
    found = Counter()
    for _, _, record in rows:
        for name, mark in record["marks"].items():
            if mark["status"] not in ("passed", "unwritten"):
                found[(name, re.sub(r", in line \d+: `.*", ".", mark["advice"] or WORDS.get(mark["status"], "")))] += 1
    lines = [[str(count), tag("code", name), code_marks(advice)] for (name, advice), count in found.most_common(12)]
    return [tag("h3", "What went wrong, most often first"), table(["times", "exercise", "what was said"], lines, (0,))
            ] if lines else []  # fmt: skip


def _looks(rows: Rows) -> list[str]:
    """Files and answers that somebody should open."""
    lines = []
    for learner, link, record in rows:
        if "error" in record:
            lines.append([_link(learner, link), "the file", escape(record["error"])])
        for name, mark in record.get("marks", {}).items():
            odd = [mark["advice"]] if mark["status"] in ("tampered", "copied", "died", "time") else []
            lines += [[_link(learner, link), tag("code", name), escape(each)] for each in odd + mark["notes"]]
    return [tag("h2", "Worth a look"), table(["learner", "where", "what"], lines)] if lines else []


def _alike(rows: Rows) -> list[str]:
    found = alike({learner: record for learner, _, record in rows})
    lines = [[escape(one), escape(other), str(letters), str(shapes)] for one, other, letters, shapes in found]
    return [tag("h2", "Answers that are alike"),
            tag("p", "Forms that at most three of the class share. People who learn together write alike: this is a "
                "reason to ask, and no proof.", cls="soft"),
            table(["one", "other", "to the letter", "up to names"], lines, (2, 3))] if lines else []  # fmt: skip


def _learners(rows: Rows) -> list[str]:
    lines = []
    for learner, link, record in sorted(rows, key=lambda row: (row[0], str(row[2].get("lesson")))):
        points, most = totals(record)
        lines.append([_link(learner, link), escape(record.get("lesson", "-")), f"{points} of {most}",
                      bar(points / most if most else 0)])  # fmt: skip
    return [tag("h2", "Learners"), table(["learner", "lesson", "points", ""], lines, (2,))]


def _link(learner: str, link: str) -> str:
    return raw("a", escape(learner), href=link)
