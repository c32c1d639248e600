"""Forked children, a few at a time, each with a limit of time; each leaves its answer in a file."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


class Pool:
    """`submit` forks; `finished` waits for one child and gives what it was for and what it answered (None: it died)."""

    def __init__(self, workers: int):
        self.workers = workers
        self.running: dict[int, tuple] = {}

    def full(self) -> bool:
        return len(self.running) >= self.workers

    def submit(self, label, limit: float, work: Callable[[], object]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        pid = os.fork()
        if pid == 0:
            self.child(folder, work)
        self.running[pid] = (label, folder, time.monotonic() + limit)

    def child(self, folder: Path, work: Callable[[], object]) -> None:
        """Never comes back."""
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in () if os.environ.get("MUTATE_DEBUG") else (1, 2):
            os.dup2(nowhere, stream)
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)  # its own tmp_path
        status = 1
        try:
            answer = work()
            (folder / "answer.part").write_text(json.dumps(answer))
            (folder / "answer.part").rename(folder / "answer.json")
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def finished(self):
        """The next (label, answer): "late" or "crashed" where a limit or a signal ended the child, None where it gave
        up by itself, which says nothing."""
        while True:
            for pid, (label, folder, deadline) in list(self.running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                late = not done and time.monotonic() > deadline
                if late:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                if done or late:
                    del self.running[pid]
                    file = folder / "answer.json"
                    signalled = bool(done) and os.WIFSIGNALED(status)
                    alarm = signalled and os.WTERMSIG(status) == signal.SIGALRM
                    answer = json.loads(file.read_text()) if file.exists() else None
                    shutil.rmtree(folder, ignore_errors=True)
                    return label, ("late" if late or alarm else "crashed" if signalled else answer)
            time.sleep(0.005)
