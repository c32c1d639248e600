"""Grade many files: a pool of workers, each restarted when it breaks; every finished file is a record on disk."""

import queue
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CourseError
from . import records
from .handle import START_SECONDS, Worker
from .reading import MAX_BYTES
from .records import Submission
from .sandbox import Sandbox
from .totals import said

LONGEST = 600.0  # seconds for one file with all its answers, each of which has its own limit


@dataclass(frozen=True)
class Settings:
    """How a batch is graded; everything here is part of a record's key."""

    seed: str
    lesson: str | None = None
    core: bool = False
    seconds: float = 5.0
    memory_mb: int = 1024


class Batch:
    """Submissions, the records of those that are done, and the threads that grade the others."""

    def __init__(self, submissions: list[Submission], folder: Path, settings: Settings, told: Callable[[str], None]):
        self.submissions, self.folder, self.settings, self.told = submissions, folder, settings, told
        self.done: dict[Submission, dict] = {}
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        self.broken: list[Exception] = []
        self.course = records.course_digest()
        self.stop = threading.Event()
        for each in submissions:
            record = self._kept(each)
            if record:
                self.done[each] = record
            else:
                self.waiting.put(each)

    def run(self, sandbox: Sandbox, workers: int) -> list[tuple[Submission, dict]]:
        """Grade what is left; CourseError where no worker can grade at all."""
        if self.done:
            self.told(f"{len(self.done)} of {len(self.submissions)} were graded before.")
        pool = [threading.Thread(target=self._work, args=(sandbox,)) for _ in range(min(workers, self.waiting.qsize()))]
        for each in pool:
            each.start()
        try:
            for each in pool:
                each.join()
        except BaseException:
            self.stop.set()  # Ctrl-C: what is being graded is finished, the rest stays for the next time
            raise
        if self.broken:
            raise self.broken[0]
        return [(each, self.done[each]) for each in self.submissions]

    def _kept(self, submission: Submission) -> dict | None:
        return records.load(self.folder, self._key(submission))

    def _key(self, submission: Submission) -> str:
        return records.key(submission, asdict(self.settings) | {"course": self.course})

    def _work(self, sandbox: Sandbox) -> None:
        worker = None
        try:
            while not self.stop.is_set() and not self.broken:
                submission = self.waiting.get_nowait()
                worker = worker or self._start(sandbox)
                record = self._grade(submission, worker)
                if record.pop("restart", False):
                    worker.stop()
                    worker = None
                self._finish(submission, record)
        except queue.Empty:
            pass
        except Exception as error:  # a full disk, no worker: said once, by the main thread
            self.broken.append(error)
        finally:
            if worker:
                worker.stop()

    def _start(self, sandbox: Sandbox) -> Worker:
        worker = Worker(sandbox, self.settings.seed)
        if worker.hear(START_SECONDS) != {"ready": True}:
            said = worker.last_words()
            worker.stop()
            raise CourseError(f"The grader cannot start here: {said}")
        return worker

    def _grade(self, submission: Submission, worker: Worker) -> dict:
        settings = self.settings
        if records.too_large(submission.path):
            return {"error": f"it has more than {MAX_BYTES >> 20} MB. Clear the outputs, and hand it in again."}
        copy = worker.inbox / "submission.ipynb"  # a name of ours: theirs may be anything
        try:
            shutil.copyfile(submission.path, copy)
        except OSError as error:
            return {"error": f"the file cannot be read ({error.strerror or error})."}
        request = {"file": str(copy), "lesson": settings.lesson, "core": settings.core, "seconds": settings.seconds,
                   "memory_mb": settings.memory_mb}  # fmt: skip
        reply = worker.ask(request, LONGEST)
        copy.unlink()
        if reply is None:
            return {"error": "it ended the grader's process, or kept it from answering.", "restart": True}
        if "broken" in reply:  # the lesson's fault and not the file's: not kept, so that it is tried again
            return {"error": reply["broken"], "again": True}
        return reply

    def _finish(self, submission: Submission, record: dict) -> None:
        if "again" not in record:
            records.save(self.folder, self._key(submission), record)
        self.done[submission] = record
        self.told(f"{len(self.done):>4} of {len(self.submissions)}  {submission.learner}: {said(record)}")
