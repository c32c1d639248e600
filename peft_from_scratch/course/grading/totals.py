"""Sums over a record."""


def totals(record: dict) -> tuple[int, int]:
    """(points, most points)."""
    marks = record.get("marks", {}).values()
    return sum(each["points"] for each in marks), sum(each["max_points"] for each in marks)


def said(record: dict) -> str:
    """One line on a record."""
    if "error" in record:
        return f"not graded: {record['error']}"
    points, most = totals(record)
    return f"lesson {record['lesson']}, {points} of {most} points"
