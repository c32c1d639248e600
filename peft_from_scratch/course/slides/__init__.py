"""`course slides`: one deck a lesson in one file, with speaker notes and timings; press S for the speaker's view."""

import argparse

from ..files import folder, write
from ..lessons import notebook_path
from ..npm import REVEAL, members
from ..site import lesson_arguments, require

TOY = "Every number on these slides comes from a tiny random model and means nothing: for real ones use --mode cpu."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    lesson_arguments(parser, "decks")


def run(args: argparse.Namespace) -> int:
    require()
    from ..site import execute
    from ..site.build import choose
    from .deck import deck
    from .notes import read_notes
    from .page import page

    lessons, reveal = choose(args.lesson), members(REVEAL)
    folder(args.out)
    execute.run_all(lessons, args.mode)
    for lesson in lessons:
        path = notebook_path(lesson)
        notes = read_notes(path.parent / "instructor" / f"{path.stem}.md")
        slides = deck(lesson, execute.executed(path, args.mode), notes)
        if args.mode == "ci":
            slides[0][0].text += f"\n\n*{TOY}*"
        to = write(args.out / f"{path.stem}.html", page(lesson, slides, reveal))
        print(
            f"{to}: {sum(map(len, slides))} slides{'' if notes.page else ', no notes: it has no instructor page yet'}"
        )
    print("Open one in a browser; it needs no network. S opens the speaker's view, ? lists the keys.")
    return 0
