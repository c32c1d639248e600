"""A lesson as an nbgrader assignment (source layout), for places that run nbgrader already; and the points it reads.

nbgrader takes a number that a grading cell returns as partial credit. Here that is what our own check gives.
"""

import copy

from ..check import session
from ..check.exercise import Lesson
from ..check.grading import MISSING, grade
from ..check.lookup import exercise
from ..check.report import own_answer
from .student import put, text

CONFIG = '''"""nbgrader's settings for these assignments: run nbgrader in this folder."""

c = get_config()
c.CourseDirectory.course_id = "peft"
c.ClearSolutions.code_stub = {"python": "# replace the dots above"}
c.ClearSolutions.enforce_metadata = False
c.ExecutePreprocessor.timeout = 120
'''


def points(name: str) -> int:
    """The points of the learner's own answer to an exercise: `points("lora.forward")` as the last line of a cell."""
    task = exercise(name)
    answer = own_answer(task, session.caller_namespace())
    return 0 if answer is MISSING else grade(task, answer).points


def source_notebook(student: dict, lesson: Lesson, core: bool) -> dict:
    """The student's notebook with references between nbgrader's marks, and a locked cell of points after each check."""
    book = copy.deepcopy(student)
    tasks = {task.name: task for task in lesson.exercises if task.tier == "core" or not core}
    cells = []
    for cell in book["cells"]:
        cells.append(cell)
        task = tasks.get(cell["metadata"].get("pfs", {}).get("exercise"))
        if task:
            put(cell, f"{text(cell).rstrip()}\n### BEGIN SOLUTION\n{task.reference}\n### END SOLUTION")
            cell["metadata"]["nbgrader"] = _marks(task.name, solution=True)
            cells.append(_points_cell(task.name, task.points))
    book["cells"] = cells
    return book


def _points_cell(name: str, most: int) -> dict:
    source = f'from peft_from_scratch.course.nbgrader import points\n\npoints("{name}")  # of {most}'
    cell = {"cell_type": "code", "id": f"{name.replace('.', '-')}-points"[:64], "execution_count": None, "outputs": [],
            "metadata": {"nbgrader": _marks(f"{name}-points", grade=True) | {"points": most}}}  # fmt: skip
    put(cell, source)
    return cell


def _marks(name: str, grade: bool = False, solution: bool = False) -> dict:
    return {"grade_id": name.replace(".", "-"), "grade": grade, "solution": solution, "locked": not solution,
            "task": False, "schema_version": 3, "cell_type": "code"}  # fmt: skip
