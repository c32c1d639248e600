"""A process that has imported the libraries, but neither the package nor its tests. For each question it forks a child
that imports those with one page's text mutated, and runs tests.

Importing twice in one process would not do: beartype keeps the classes of a type hint it has met before.
"""

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from importlib.machinery import SourceFileLoader

import pytest

from .swap import PACKAGE, ROOT, module_of

LIBRARIES = "torch transformers transformers.pytorch_utils peft bitsandbytes hosts safetensors.torch coverage"


class Fresh:
    """`first_failed(page, text, tests, limit)` answers in any process that was forked after this was made."""

    def __init__(self):
        for name in LIBRARIES.split():
            importlib.import_module(name)
        assert PACKAGE not in sys.modules
        self.folder, self.parent = tempfile.mkdtemp(prefix="mutate-"), os.getpid()
        door = socket.socket(socket.AF_UNIX)
        door.bind(f"{self.folder}/door")
        door.listen()
        if os.fork() == 0:
            self.serve(door)

    def serve(self, door: socket.socket) -> None:
        """Until the one who made it is gone."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
        door.settimeout(2)
        while os.getppid() == self.parent:
            try:
                caller, _ = door.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                answer(caller)
            caller.close()
        shutil.rmtree(self.folder)
        os._exit(0)

    def first_failed(self, page: str, text: str, tests: list[str], limit: float) -> str:
        """The name of the first test that fails, "crashed" where the child died or its time was over, or nothing."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"{self.folder}/door")
            caller.sendall(json.dumps([page, text, tests, limit]).encode() + b"\n")
            told = caller.makefile().readline()
        return json.loads(told) if told else "crashed"


class Failures:
    """A pytest plugin that remembers what failed."""

    def __init__(self):
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        self.names += [report.nodeid] * report.failed


def answer(caller: socket.socket) -> None:
    """In the child; never comes back."""
    try:
        page, text, tests, limit = json.loads(caller.makefile().readline())
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(int(limit))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in () if os.environ.get("MUTATE_DEBUG") else (1, 2):
            os.dup2(nowhere, stream)
        os.chdir(ROOT)
        mutate(page, text)
        with tempfile.TemporaryDirectory() as folder:
            failures = Failures()
            options = ["-x", "-q", "-s", "--tb=no", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"]
            code = pytest.main([*options, *tests], plugins=[failures])
        name = "" if code == 0 else (failures.names or ["crashed"])[0]
        caller.sendall(json.dumps(name).encode() + b"\n")
    finally:
        os._exit(0)


def mutate(page: str, text: str) -> None:
    """Whoever imports the page from now on finds this text."""
    original, name, path = SourceFileLoader.get_code, module_of(page), str(ROOT / PACKAGE / page)

    def get_code(self, fullname):
        return self.source_to_code(text.encode(), path) if fullname == name else original(self, fullname)

    SourceFileLoader.get_code = get_code
