"""`python -m peft_from_scratch NAME ...`: one module a command, imported only when it is called."""

import argparse
import importlib
import sys

COMMANDS = {
    "compare": ("peft_from_scratch.compare.cli", "methods against full fine-tuning: run a table, report on it"),
    "cost": (
        "peft_from_scratch.cost",
        "what a training step costs in numbers, FLOPs and bytes, predicted and measured",
    ),
    "course": ("peft_from_scratch.course.cli", "for instructors: doctor, release, grade and more (also peft-course)"),
    "demo": ("peft_from_scratch.demo", "fine-tune a real model in full, head only, by BitFit and by LoRA"),
    "fetch": ("peft_from_scratch.fetch", "download models and data into the cache, each checked by its hash"),
    "methods": ("peft_from_scratch.methods.table", "all methods: paper, what they train, oracle, page"),
    "progress": ("peft_from_scratch.course.show", "your points, hints, quizzes and next step"),
    "quiz": ("peft_from_scratch.quiz.terminal", "answer a lesson's quiz in the terminal"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="peft_from_scratch", description="A course on PEFT.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, what) in COMMANDS.items():
        sub = commands.add_parser(name, help=what, description=what)
        if name in argv[:1]:
            chosen = importlib.import_module(module)
            chosen.add_arguments(sub)
            sub.set_defaults(run=chosen.run)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
