"""The check engine in real kernels, and the runner and the rules for notebooks."""

from pathlib import Path

import pytest

from peft_from_scratch.check import exercise
from peft_from_scratch.check.notebooks import cell_of, check_cells, run_notebook, validate_notebook

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

DEMO = Path(__file__).parent / "lessons"
STUB = "def lora_forward(x, W, b, A, B, scale):\n    ..."
RIGHT = "def lora_forward(x, W, b, A, B, scale):\n    return x @ W.T + b + scale * (x @ A.T) @ B.T"
CHECK = 'lora_forward = check("demo.forward", "lora_forward")'
LESSON = [
    "# Demo",
    "import torch\nfrom torch import nn\nfrom peft_from_scratch.check import check, predict, reveal",
    "## One\n![a row of dots](dots.png)",
    STUB,
    CHECK,
    "def lora_count(d_in, d_out, r):\n    ...",
    'lora_count = check("demo.count", "lora_count")',
    "my_guess = ...\nmy_range = (..., ...)",
    'my_guess, my_range = check("demo.guess", "my_guess, my_range")\npredict("99.share", my_guess, my_range)',
    'reveal("99.share", 0.325)',
    "order = ...",
    'order = check("demo.steps", "order")',
    "class LoRALinear(nn.Module):\n    def __init__(self, base, r, alpha):\n        ...\n"
    "    def forward(self, x):\n        ...",
    'LoRALinear = check("demo.layer", "LoRALinear")',
    "print(LoRALinear(nn.Linear(7, 5), 2, 4)(torch.ones(1, 7)).shape)",
    "n = ...",
    'n = check("demo.number", "n")',
]


@pytest.fixture(autouse=True)
def demo(monkeypatch):
    monkeypatch.setenv("PFS_LESSONS", str(DEMO))


def notebook(path, sources, exercises=()):
    """Write a notebook; text that starts with # or ## is Markdown. `exercises` names cells: {index: name}."""
    new = nbformat.v4
    cells = [(new.new_markdown_cell if text.startswith("#") else new.new_code_cell)(text) for text in sources]
    for index, name in dict(exercises).items():
        cells[index].metadata["pfs"] = {"exercise": name}
    nbformat.write(new.new_notebook(cells=cells), path)
    return path


def test_untouched_scores_nothing_and_says_little(tmp_path):
    result = run_notebook(notebook(tmp_path / "99_demo.ipynb", LESSON))
    assert result.errors == () and result.points == 0 and result.max_points == 13
    said = "".join(result.outputs[4:14])
    assert said.splitlines() == [f"○ demo.{name}: not written yet" for name in ("forward", "count", "guess")] + [
        "○ 99.share: no prediction made",
        "99.share: 0.325 (no prediction made)",
        "○ demo.steps: not written yet",
        "○ demo.layer: not written yet",
    ]
    assert "torch.Size([1, 5])" in result.outputs[14]
    assert result.seconds > 0 and 50 < result.peak_mb < 5000


def test_solved_scores_everything(tmp_path):
    path = notebook(tmp_path / "99_demo.ipynb", LESSON, {3: "demo.forward"})
    before = path.read_bytes()
    result = run_notebook(path, solved=True, env={"PFS_STRICT": "1"})
    assert result.errors == () and result.points == result.max_points == 13
    assert path.read_bytes() == before


def test_learners_troubles_in_a_real_kernel(tmp_path):
    first = "import torch\nfrom peft_from_scratch.check import check"
    cells = [
        first,
        'check("demo.count", "lora_count")',
        RIGHT,
        CHECK,
        RIGHT.replace("scale *", "undefined *") + "\nnope",
        CHECK,
        "nope\n" + RIGHT,
        CHECK,
        RIGHT.replace("return", "return return"),
        CHECK,
        "def lora_forward(x, W, b, A, B, scale):\n    while True:\n        pass",
        CHECK,
        CHECK,
        RIGHT,
        CHECK,
        "import time\nprint('still here')",
    ]
    result = run_notebook(notebook(tmp_path / "99_demo.ipynb", cells))
    said = result.outputs
    assert "`lora_count` is not defined. Run the cell that defines it" in said[1]
    assert "3 of 3 points" in said[3]
    assert "NameError: name 'undefined' is not defined" in said[5]  # the new one, defined before its cell failed
    assert "the cell that defines lora_forward stopped with NameError: name 'nope'" in said[7]
    assert "older version is not graded" in " ".join(said[7].split())
    assert "stopped with SyntaxError" in said[9] and "older version" in said[9]
    assert "stopped after 0.5 seconds" in said[11] and "stopped after 0.5 seconds" in said[12]
    assert "3 of 3 points" in said[14] and "still here" in said[15]
    assert [name for _, name, _ in result.errors] == ["NameError", "NameError", "SyntaxError"]


def test_exercise_cells_are_found_by_name_where_metadata_is_lost(tmp_path):
    read = nbformat.read(notebook(tmp_path / "99_demo.ipynb", LESSON), as_version=4)
    assert list(check_cells(read).values()) == [
        f"demo.{x}" for x in ("forward", "count", "guess", "steps", "layer", "number")
    ]
    assert cell_of(read, exercise("demo.forward")) == 3
    assert cell_of(read, exercise("demo.guess")) == 7


def test_a_good_notebook_breaks_no_rule(tmp_path):
    assert validate_notebook(notebook(tmp_path / "99_demo.ipynb", LESSON)) == []


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda cells: cells + ["pass"] * 60, "77 cells; at most 60"),
        (lambda cells: cells + ["## " + "word " * 3001], "words; at most 3000"),
        (lambda cells: [cells[0], "a = 1\n" * 4, *cells[1:]], "cell 1 has 4 lines; at most 3"),
        (lambda cells: [*cells, "a = 1\n" * 16], "cell 17 has 16 lines; at most 15"),
        (lambda cells: [*cells, "# Again"], "2 headings of level 1"),
        (lambda cells: [cells[0], "### Deep", *cells[1:]], "skips a level (from 1 to 3)"),
        (lambda cells: [*cells, "## End\n![](x.png)"], "image x.png has no alt text"),
        (lambda cells: [*cells, "## End\n<img src='x.png' alt=''>"], "has no alt text"),
        (lambda cells: cells[:10] + cells[12:], "exercise demo.steps has no check cell"),
        (lambda cells: cells[:10] + cells[11:], "exercise demo.steps has no cell that defines order"),
        (lambda cells: [*cells, 'check("demo.other", "x")'], "check('demo.other') is no exercise of lesson 99"),
    ],
)
def test_each_rule_is_kept(tmp_path, change, says):
    found = validate_notebook(notebook(tmp_path / "99_demo.ipynb", change(LESSON)))
    assert any(says in each for each in found), found


def test_outputs_and_unknown_lessons_are_found(tmp_path):
    path = notebook(tmp_path / "99_demo.ipynb", LESSON)
    read = nbformat.read(path, as_version=4)
    read.cells[1].outputs = [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(read, path)
    assert validate_notebook(path) == ["cell 1 holds an output; clear it"]
    other = path.rename(tmp_path / "77_none.ipynb")
    assert any("There is no lesson '77'" in each for each in validate_notebook(other))
