"""Quizzes, progress and reports run where there is no torch: these modules import none, so that any Python will do."""

import os
import subprocess
import sys

import pytest

WITHOUT = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else found(name, package)
sys.meta_path.insert(0, Nowhere())
from peft_from_scratch.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(tmp_path, *arguments, typed=""):
    environment = os.environ | {"PFS_PROGRESS": str(tmp_path / "progress.jsonl"), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, env=environment, timeout=60)


def test_a_quiz_in_the_terminal_and_then_the_progress(tmp_path):
    done = run(tmp_path, "quiz", "00", typed="0.325\nq\n")
    assert done.returncode == 0 and "Quiz 00" in done.stdout, done.stderr
    done = run(tmp_path, "progress")
    assert done.returncode == 0 and "quiz 00: 1 right" in done.stdout, done.stdout + done.stderr


def test_every_public_name_is_there():
    import peft_from_scratch

    for name in peft_from_scratch.__all__:
        assert callable(getattr(peft_from_scratch, name))
    with pytest.raises(AttributeError, match="no attribute 'Lora'"):
        peft_from_scratch.Lora  # noqa: B018
    assert set(peft_from_scratch.__all__) <= set(dir(peft_from_scratch))
