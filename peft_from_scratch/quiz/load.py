"""Find a quiz file, read it, and say clearly what is wrong with a malformed one."""

import difflib
import json
from pathlib import Path

import yaml
from pydantic import ValidationError

from .model import Quiz

PACKAGE = Path(__file__).resolve().parent.parent


class QuizError(ValueError):
    """A quiz that is not there or is malformed; the message names file, question and fault."""


class _Loader(yaml.SafeLoader):
    """Plain YAML, but a key given twice is an error: YAML itself would keep the last one silently."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{min(twice)}' stands twice in one block", node.start_mark
            )
        return super().construct_mapping(node, deep)


def folder() -> Path:
    """The folder of the banks: inside an installed package, else at the top of a clone."""
    installed, clone = PACKAGE / "_quizzes", PACKAGE.parent / "quizzes"
    for place in (installed, clone):
        if place.is_dir():
            return place
    raise QuizError(f"No quizzes found: neither {installed} nor {clone} exists. Reinstall the package or clone again.")


def quiz_names() -> list[str]:
    """The banks that exist, for example ["00_start_here"]."""
    return sorted(path.stem for path in folder().glob("[0-9][0-9]_*.yaml"))


def find_quiz(name: str) -> Path:
    """The file of a quiz given as "00", "start_here", "00_start_here" or a path."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise QuizError(f"There is no quiz file {name}.")
        return Path(name)
    names = quiz_names()
    for stem in names:
        if name in (stem, *stem.split("_", 1)):
            return folder() / f"{stem}.yaml"
    near = difflib.get_close_matches(name, names + [stem[3:] for stem in names], 1, 0.5)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    raise QuizError(f"There is no quiz '{name}'.{guess} There are: {', '.join(names) or 'none'}.")


def load_quiz(path_or_id: str | Path) -> Quiz:
    """Read and validate one quiz; QuizError says which file, which question, and what is wrong there."""
    path = path_or_id if isinstance(path_or_id, Path) else find_quiz(path_or_id)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader: data only
    except (OSError, UnicodeDecodeError) as error:
        raise QuizError(f"{path.name} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise QuizError(f"{path.name} is not valid YAML: {error}") from None
    try:
        return Quiz.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(data, fault)}" for fault in error.errors())
        raise QuizError(f"{path.name} is malformed:\n{faults}") from None


def _fault(data, fault: dict) -> str:
    """One line: the question's id, the field, what is wrong."""
    where = list(fault["loc"])
    question = ""
    if len(where) > 1 and where[0] == "questions":
        number, where = where[1], where[2:]
        entry = data["questions"][number]
        named = entry.get("id") if isinstance(entry, dict) else None
        question = f"question {named or f'number {number + 1}'}: "
        where = where[1:] if where and isinstance(entry, dict) and where[0] == entry.get("type") else where
    field = ".".join(str(part) for part in where)
    return question + (f"{field}: " if field else "") + fault["msg"].removeprefix("Value error, ") + _advice(fault)


def _advice(fault: dict) -> str:
    """What to do, for the faults that YAML itself invites."""
    if fault["type"] == "extra_forbidden":
        return " (unknown field: look for a typing error)"
    if fault["type"] == "string_type":
        return f" (found {fault['input']!r}: put it in quotes)"
    return ""


def schema() -> str:
    """The JSON schema of a quiz file, as text: what `quizzes/schema.json` must hold."""
    return json.dumps(Quiz.model_json_schema(by_alias=True), indent=1) + "\n"
