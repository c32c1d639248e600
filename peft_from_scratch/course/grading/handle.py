"""A worker's process as the instructor's side sees it: ask, hear, stop."""

import json
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .sandbox import Sandbox, command, environment

START_SECONDS = 180.0  # imports and the rehearsal of a lesson, on a busy machine
MAX_LINE = 2**26


class Worker:
    """A process behind the sandbox that grades one file after the other. `inbox` is all it sees of the submissions."""

    def __init__(self, sandbox: Sandbox, seed: str):
        self.place = Path(tempfile.mkdtemp(prefix="grading-"))
        self.inbox, self.work = self.place / "inbox", self.place / "work"
        self.inbox.mkdir(), self.work.mkdir()
        self.place.chmod(0o711)  # the learner's user passes through to its own folder, and reads nothing else
        self.work.chmod(0o711), self.inbox.chmod(0o700)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*sandbox.prefix(self.inbox), *command()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            env=environment(seed, sandbox.scratch or str(self.work)), cwd="/", start_new_session=True,
        )  # fmt: skip
        self.rest = b""

    def ask(self, request: dict, seconds: float) -> dict | None:
        """The reply, or None where the worker died or said nothing in time."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return self.hear(seconds)

    def hear(self, seconds: float) -> dict | None:
        ends = time.monotonic() + seconds
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], max(0.0, ends - time.monotonic()))[0]:
                return None
            part = self.process.stdout.read1(2**16)
            if not part or len(self.rest) > MAX_LINE:
                return None
            self.rest += part
        line, self.rest = self.rest.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            return None

    def last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close(), self.process.stdout.close(), self.log.close()
        shutil.rmtree(self.place, ignore_errors=True)
